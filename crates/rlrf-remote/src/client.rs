//! One request, with the patience that it takes.

use std::time::{Duration, SystemTime};

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy as Redirects;
use reqwest::{StatusCode, Url};
use rlrf_method::Message;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::chat::{Reply, error_code, error_detail};
use crate::error::{Error, Result};
use crate::fleet::{Failure, Fleet, Place, Waits};
use crate::key::ApiKey;
use crate::options::RemoteOptions;
use crate::url::{call, is_local};

/// A server that does not even take the connection within this time is down.
const CONNECT: Duration = Duration::from_secs(10);

/// Nobody waits longer than this at a server's request: the user should know.
const LONGEST_REQUESTED_WAIT: Duration = Duration::from_secs(15 * 60);

/// Asks the servers of one model.
pub(crate) struct Client {
    http: reqwest::Client,
    pub(crate) fleet: Fleet,
    model: String,
    key: Option<ApiKey>,
    attempts: u32,
    waits: Waits,
}

/// How an attempt ended that may be repeated.
struct Setback {
    failure: Failure,
    /// What the server asks for.
    wait: Option<Duration>,
    what: String,
}

enum Attempt {
    Setback(Setback),
    End(Error),
}

impl Client {
    pub(crate) fn new(servers: Vec<Url>, model: &str, options: &RemoteOptions) -> Result<Self> {
        options.validate()?;
        let waits = Waits { first: options.first_wait, longest: options.longest_wait };
        Ok(Self {
            http: http_client(&servers, options)?,
            fleet: Fleet::new(servers, options.in_flight, waits),
            model: model.to_string(),
            key: options.key.clone(),
            attempts: options.attempts,
            waits,
        })
    }

    /// The reply to `body`, read by `read`; `messages` name the prompt in errors.
    pub(crate) async fn ask<T>(
        &self,
        body: &Value,
        messages: &[Message],
        read: impl Fn(&[u8]) -> Reply<T>,
    ) -> Result<T> {
        let started = Instant::now();
        let (mut failed, mut tried, mut avoid) = (0, 0, None);
        let mut successes = self.fleet.successes();
        loop {
            let place = self.fleet.place(avoid).await;
            tried += 1;
            let url = call(place.url(), "chat/completions");
            let setback = match self.attempt(&url, body, messages, &read).await {
                Ok(found) => {
                    self.fleet.succeeded(&place);
                    return Ok(found);
                }
                Err(Attempt::End(error)) => return Err(error),
                Err(Attempt::Setback(setback)) => setback,
            };
            // Being turned away while others get through is waiting, not failing.
            let others = self.fleet.successes();
            if setback.failure == Failure::Overloaded && others > successes {
                failed = 0;
            } else {
                failed += 1;
            }
            successes = others;
            self.fleet.failed(&place, setback.failure, setback.wait);
            if failed >= self.attempts {
                let (url, model, last) = (url.to_string(), self.model.clone(), setback.what);
                return Err(Error::GivenUp { url, model, attempts: tried, spent: started.elapsed(), last });
            }
            let server = place.server;
            drop::<Place<'_>>(place);
            avoid = Some(server);
            if !self.fleet.has_healthy_server_besides(server) {
                sleep(self.waits.after(failed.max(1))).await;
            }
        }
    }

    async fn attempt<T>(
        &self,
        url: &Url,
        body: &Value,
        messages: &[Message],
        read: impl Fn(&[u8]) -> Reply<T>,
    ) -> std::result::Result<T, Attempt> {
        let request =
            self.http.post(url.clone()).header(CONTENT_TYPE, "application/json").body(body.to_string());
        let (status, headers, reply) = match receive(request).await {
            Ok(received) => received,
            Err(error) => return Err(Attempt::Setback(self.broken(&error))),
        };
        if status == StatusCode::OK {
            return match read(&reply) {
                Reply::Response(found) => Ok(found),
                Reply::Garbage(what) => {
                    let what = self.without_key(&what);
                    Err(Attempt::Setback(Setback { failure: Failure::Other, wait: None, what }))
                }
                Reply::Unusable(message) => {
                    let (url, model) = (url.to_string(), self.model.clone());
                    Err(Attempt::End(Error::Reply { url, model, message }))
                }
            };
        }
        Err(self.refusal(url, status, &headers, &reply, messages))
    }

    /// Why no reply came at all.
    fn broken(&self, error: &reqwest::Error) -> Setback {
        let failure =
            if error.is_timeout() && !error.is_connect() { Failure::Other } else { Failure::Unreachable };
        Setback { failure, wait: None, what: self.without_key(&describe(error)) }
    }

    /// What a status other than 200 means.
    fn refusal(
        &self,
        url: &Url,
        status: StatusCode,
        headers: &HeaderMap,
        reply: &[u8],
        messages: &[Message],
    ) -> Attempt {
        let (url, model, code) = (url.to_string(), self.model.clone(), status.as_u16());
        let said = self.without_key(&error_detail(reply));
        let detail = format!(", {said:?}");
        let refused = |advice: &str| {
            let (url, model, detail) = (url.clone(), model.clone(), detail.clone());
            Attempt::End(Error::Refused { url, model, status: code, detail, advice: advice.into() })
        };
        let overloaded = matches!(code, 429 | 503 | 529);
        if code == 429 && error_code(reply) == "insufficient_quota" {
            return refused("the account has no credit left");
        }
        if overloaded || matches!(code, 408 | 409 | 425) || status.is_server_error() && code != 501 {
            let wait = retry_after(headers);
            if let Some(wait) = wait.filter(|&wait| wait > LONGEST_REQUESTED_WAIT) {
                return refused(&format!(
                    "it asks to come back in {} s; repeat the command then",
                    wait.as_secs()
                ));
            }
            let failure = match code {
                429 | 529 => Failure::Overloaded,
                502..=504 => Failure::Unreachable,
                _ => Failure::Other,
            };
            return Attempt::Setback(Setback { failure, wait, what: format!("HTTP {code}{detail}") });
        }
        let prompt = || named(messages);
        match code {
            401 | 403 => {
                Attempt::End(Error::Key { url, model, status: code, detail, sent: self.key.is_some() })
            }
            404 => Attempt::End(Error::NotFound { url, model, status: code, detail }),
            400 | 413 | 422 if is_too_long(code, &said, &error_code(reply)) => {
                Attempt::End(Error::Context { url, model, status: code, detail, prompt: prompt() })
            }
            300..400 => {
                let place = headers
                    .get("location")
                    .and_then(|place| place.to_str().ok())
                    .unwrap_or("another address");
                refused(&format!("it redirects to {}; give that address", self.without_key(place)))
            }
            405 | 501 => refused(
                "the address is not that of an OpenAI-compatible chat endpoint; it ends in /v1 as a rule",
            ),
            _ => refused(&format!(
                "change what it names, or the settings of the server (it was asked {})",
                prompt()
            )),
        }
    }

    fn without_key(&self, text: &str) -> String {
        ApiKey::hide_in(self.key.as_ref(), text)
    }
}

/// A client that sends the key to these servers, and follows them nowhere else.
pub(crate) fn http_client(servers: &[Url], options: &RemoteOptions) -> Result<reqwest::Client> {
    let mut headers = HeaderMap::new();
    if let Some(key) = &options.key {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", key.secret()))
            .map_err(|_| Error::Client("the API key holds characters that a key cannot have".into()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("rlrf/", env!("CARGO_PKG_VERSION")))
        .default_headers(headers)
        .connect_timeout(CONNECT)
        .timeout(options.timeout)
        .redirect(Redirects::none());
    if servers.iter().all(is_local) {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| Error::Client(describe(&error)))
}

/// Sends a request and waits for the whole reply.
pub(crate) async fn receive(
    request: reqwest::RequestBuilder,
) -> std::result::Result<(StatusCode, HeaderMap, Vec<u8>), reqwest::Error> {
    let reply = request.send().await?;
    let (status, headers) = (reply.status(), reply.headers().clone());
    Ok((status, headers, reply.bytes().await?.to_vec()))
}

/// reqwest names the cause only in its chain of sources.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    let mut text = match error {
        error if error.is_connect() => "cannot connect".to_string(),
        error if error.is_timeout() => return "no reply in time".into(),
        _ => "the connection broke".to_string(),
    };
    let mut source = std::error::Error::source(error);
    let mut innermost = None;
    while let Some(cause) = source {
        innermost = Some(cause.to_string());
        source = cause.source();
    }
    if let Some(cause) = innermost {
        text = format!("{text}: {cause}");
    }
    text
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(SystemTime::now()).unwrap_or_default())
}

/// Servers have no common code for it.
fn is_too_long(status: u16, said: &str, code: &str) -> bool {
    let said = said.to_lowercase();
    status == 413
        || code.contains("context_length") || code.contains("exceed_context_size")
        || ["context length", "context size", "maximum context", "max_model_len", "context window"]
            .iter()
            .any(|words| said.contains(words))
        // TGI: `inputs` tokens + `max_new_tokens` must be <= 4096
        || (said.contains("`inputs`") && said.contains("must be <="))
}

/// A conversation in an error: how its question begins.
fn named(messages: &[Message]) -> String {
    let question = messages.iter().rfind(|message| message.role == rlrf_method::Role::User);
    let words: Vec<&str> =
        question.iter().flat_map(|message| message.content.split_whitespace()).take(8).collect();
    format!("the prompt {:?}...", words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let parsed = |value: &str| {
            retry_after(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]))
        };
        assert_eq!(parsed("7"), Some(Duration::from_secs(7)));
        assert_eq!(parsed("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(parsed("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(90));
        assert!(parsed(&soon).is_some_and(|wait| (80..=90).contains(&wait.as_secs())));
        for bad in ["-1", "nan", "inf", "1e99", "soon", ""] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_context_that_is_too_short_is_recognised() {
        for (status, said, code) in [
            (400, "This model's maximum context length is 4096 tokens. However, you requested 5000", ""),
            (
                400,
                "the request exceeds the available context size, try increasing it",
                "exceed_context_size_error",
            ),
            (400, "", "context_length_exceeded"),
            (422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096", ""),
            (413, "", ""),
        ] {
            assert!(is_too_long(status, said, code), "{said}");
        }
        assert!(!is_too_long(400, "temperature must be non-negative", "invalid_request_error"));
    }
}
