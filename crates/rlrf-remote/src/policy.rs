//! The model behind the endpoints, as the method sees it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use rlrf_method::digest::digest;
use rlrf_method::seam::{ChoiceRequest, ChoiceSink, Generated, GenerationRequest, GenerationSink, Policy};
use rlrf_method::{Error as MethodError, Message, Result as MethodResult};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::chat;
use crate::choice;
use crate::client::Client;
use crate::error::{Error, Result};
use crate::options::RemoteOptions;

/// How soon a wish to stop is noticed while no response comes.
const NOTICE: Duration = Duration::from_millis(100);

/// A model on one or several servers.
///
/// Its identity is its served name alone, so that rows made with it stay good when it moves to other servers, and when
/// servers join or leave. Whoever serves other weights under an old name must know that old responses are reused.
pub struct RemotePolicy {
    client: Arc<Client>,
    model: String,
    interrupted: fn() -> bool,
    /// Whether a prompt beyond the model's context has an empty response.
    passes_over_long_prompts: bool,
    /// None only while it is dropped.
    runtime: Option<Runtime>,
}

impl RemotePolicy {
    /// The model called `model` at `servers`; nothing is asked yet.
    ///
    /// # Errors
    /// No server, an option out of its range, or a system without threads or certificates.
    pub fn new(servers: Vec<Url>, model: &str, options: &RemoteOptions) -> Result<Self> {
        if servers.is_empty() {
            let (url, message) =
                ("no address".into(), "name an endpoint, such as http://127.0.0.1:8000/v1".into());
            return Err(Error::Url { url, message });
        }
        Ok(Self {
            client: Arc::new(Client::new(servers, model, options)?),
            model: model.to_string(),
            interrupted: options.interrupted,
            passes_over_long_prompts: false,
            runtime: Some(runtime()?),
        })
    }

    /// From now on a prompt beyond the model's context has an empty, unfinished response, and does not end all: for a judge,
    /// whose prompts grow with what others write.
    #[must_use]
    pub fn passing_over_long_prompts(mut self) -> Self {
        self.passes_over_long_prompts = true;
        self
    }

    /// The served name.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The servers.
    #[must_use]
    pub fn servers(&self) -> &[Url] {
        self.client.fleet.servers()
    }

    /// Runs `jobs`, so many at a time as the servers may have under way, and hands over what each brings as it comes.
    /// The first error ends all.
    fn run<J, T: Send + 'static, F: Future<Output = Result<T>> + Send + 'static>(
        &self,
        jobs: impl Iterator<Item = J>,
        start: impl Fn(&Arc<Client>, &J) -> F,
        sink: &mut dyn FnMut(J, T) -> MethodResult<()>,
    ) -> MethodResult<()>
    where
        J: Send + 'static,
    {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        let mut jobs = jobs.fuse();
        let limit = self.client.fleet.limit();
        runtime.block_on(async {
            // Dropped with an error, it aborts what is under way.
            let mut under_way = JoinSet::new();
            loop {
                while under_way.len() < limit
                    && let Some(job) = jobs.next()
                {
                    let asked = start(&self.client, &job);
                    under_way.spawn(async move { (job, asked.await) });
                }
                if (self.interrupted)() {
                    return Err(Error::Interrupted.into());
                }
                match timeout(NOTICE, under_way.join_next()).await {
                    Err(_) => {}
                    Ok(None) => return Ok(()),
                    Ok(Some(Ok((job, found)))) => sink(job, found?)?,
                    Ok(Some(Err(error))) => return Err(Error::Client(error.to_string()).into()),
                }
            }
        })
    }
}

impl Policy for RemotePolicy {
    fn digest(&self) -> String {
        digest(&("chat endpoint", &self.model))
    }

    /// The server decides: it alone knows its tokens.
    fn fits(&self, _messages: &[Message]) -> MethodResult<bool> {
        Ok(true)
    }

    fn generate(
        &mut self,
        requests: &[GenerationRequest],
        sink: &mut GenerationSink<'_>,
    ) -> MethodResult<()> {
        let jobs = requests
            .iter()
            .enumerate()
            .flat_map(|(index, request)| (0..request.streams.len()).map(move |stream| (index, stream)));
        let start = |client: &Arc<Client>, &(index, stream): &(usize, usize)| {
            let request = &requests[index];
            let body =
                chat::request(&self.model, &request.messages, &request.sampling, request.streams[stream]);
            let (client, messages) = (Arc::clone(client), request.messages.clone());
            let passes_over = self.passes_over_long_prompts;
            async move {
                match client.ask(&body, &messages, chat::read_reply).await {
                    Err(Error::Context { .. }) if passes_over => Ok(Generated {
                        text: String::new(),
                        tokens: Vec::new(),
                        logprob: None,
                        complete: false,
                    }),
                    outcome => outcome,
                }
            }
        };
        self.run(jobs, start, &mut |(index, stream), generated| sink(index, stream, generated))
    }

    /// From the tokens that the server says the answer may begin with. The first request finds out whether it tells.
    fn choose(&mut self, requests: &[ChoiceRequest], sink: &mut ChoiceSink<'_>) -> MethodResult<bool> {
        let Some((first, others)) = requests.split_first() else { return Ok(true) };
        let mut tells = false;
        self.probabilities(std::slice::from_ref(first), 0, &mut |index, found| {
            found.map_or(Ok(()), |found| {
                tells = true;
                sink(index, found)
            })
        })?;
        if tells {
            self.probabilities(others, 1, &mut |index, found| {
                let silent = || {
                    MethodError::Backend(format!(
                        "{}: some servers tell probabilities, some do not: make them alike",
                        self.model
                    ))
                };
                sink(index, found.ok_or_else(silent)?)
            })?;
        }
        Ok(tells)
    }
}

impl RemotePolicy {
    /// The probabilities of each request's options; `offset` is the first one's index. None where the server does not tell.
    fn probabilities(
        &self,
        requests: &[ChoiceRequest],
        offset: usize,
        sink: &mut dyn FnMut(usize, Option<Vec<f64>>) -> MethodResult<()>,
    ) -> MethodResult<()> {
        let start = |client: &Arc<Client>, &index: &usize| {
            let request = &requests[index];
            let body = choice::request(&self.model, request);
            let (client, request) = (Arc::clone(client), request.clone());
            async move {
                let read = |reply: &[u8]| choice::read_reply(reply, &request.options);
                match client.ask(&body, &request.messages, read).await {
                    // Some servers know no such option, or allow fewer tokens.
                    Err(Error::Refused { detail, .. }) if detail.contains("logprobs") => Ok(None),
                    outcome => outcome,
                }
            }
        };
        self.run(0..requests.len(), start, &mut |index, found| sink(offset + index, found))
    }
}

impl Drop for RemotePolicy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A name that is being looked up cannot be stopped; nobody should wait for it.
            runtime.shutdown_background();
        }
    }
}

/// One thread moves all the bytes; the sink works on the caller's meanwhile.
pub(crate) fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("rlrf-remote")
        .enable_all()
        .build()
        .map_err(|error| Error::Client(error.to_string()))
}
