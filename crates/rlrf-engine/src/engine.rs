//! The engine: schedule, compute, draw, until every sample has ended.

use std::iter::Sum;
use std::ops::ControlFlow;
use std::time::Instant;

use rayon::prelude::*;
use rlrf_model::{InferenceDecoder, Model, Tokenizer, WeightFormat};

use crate::blocks::BLOCK_TOKENS;
use crate::cache::Cache;
use crate::sampler::{Drawn, Sampler};
use crate::scheduler::{Output, Scheduler};
use crate::sequence::{Limits, Reading, Sequence};
use crate::workers::{self, Queue};
use crate::{Error, Generation, Request, Result};

/// How weights are held, how much is computed together, and the room for it. None of it but `weights` changes a
/// generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// Format of the packed weights.
    pub weights: WeightFormat,
    /// Samples that are decoded together at most. The samples of the last prompt to enter may wait for their turn.
    pub max_rows: usize,
    /// Tokens of key/value cache, in whole blocks of 16; see `ModelConfig::cache_bytes_per_token`. Memory is taken as the
    /// cache fills, twice as much each time.
    pub cache_tokens: usize,
    /// Prompt tokens that join the decoding rows of one step at most.
    pub prefill_tokens: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { weights: WeightFormat::F32, max_rows: 128, cache_tokens: 65_536, prefill_tokens: 512 }
    }
}

impl EngineOptions {
    /// An error that names the first option out of range.
    pub fn validate(&self) -> Result<()> {
        let options = [
            ("max_rows", self.max_rows, 1),
            ("cache_tokens", self.cache_tokens, BLOCK_TOKENS),
            ("prefill_tokens", self.prefill_tokens, 1),
        ];
        match options.into_iter().find(|(_, value, minimum)| value < minimum) {
            Some((field, value, minimum)) => Err(Error::Option { field, value, minimum }),
            None => Ok(()),
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.cache_tokens / BLOCK_TOKENS
    }
}

/// What a call of [`Engine::generate`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Stats {
    /// Tokens of the prompts that began, each prompt once.
    pub prompt_tokens: usize,
    /// Prompt tokens that were computed: fewer where prompts begin alike, more where sequences were displaced from a
    /// cache too small for them.
    pub computed_prompt_tokens: usize,
    /// Tokens drawn, end tokens and cut-off stop strings included.
    pub generated_tokens: usize,
    /// Calls of the decoder.
    pub steps: usize,
    /// Wall-clock time.
    pub seconds: f64,
}

impl Sum for Stats {
    /// The longest time, and the sums of all else.
    fn sum<I: Iterator<Item = Self>>(stats: I) -> Self {
        stats.fold(Self::default(), |sum, other| Self {
            prompt_tokens: sum.prompt_tokens + other.prompt_tokens,
            computed_prompt_tokens: sum.computed_prompt_tokens + other.computed_prompt_tokens,
            generated_tokens: sum.generated_tokens + other.generated_tokens,
            steps: sum.steps + other.steps,
            seconds: sum.seconds.max(other.seconds),
        })
    }
}

/// A model made ready to generate. It keeps its own packed copy of the weights.
#[derive(Debug)]
pub struct Engine {
    decoder: InferenceDecoder,
    tokenizer: Tokenizer,
    end_tokens: Vec<u32>,
    options: EngineOptions,
}

/// Receives each sample as it ends: index of the request, index of the sample, generation.
pub(crate) type Done<'d> = &'d mut dyn FnMut(usize, usize, Generation) -> ControlFlow<()>;

impl Engine {
    /// Packs the weights of `model`. Errors: an option out of range; [`Error::RewardModel`].
    pub fn new(model: &Model, options: EngineOptions) -> Result<Self> {
        options.validate()?;
        if model.is_reward() {
            return Err(Error::RewardModel);
        }
        Ok(Self {
            decoder: InferenceDecoder::new(&model.decoder, options.weights),
            tokenizer: model.tokenizer.clone(),
            end_tokens: model.end_tokens.clone(),
            options,
        })
    }

    /// Generates all samples of all requests and hands each to `done` as it ends, in no particular order; `done` may
    /// break, and the rest is dropped.
    ///
    /// Prompts that begin alike are computed once as far as they do, in whole blocks of 16 tokens; this works best
    /// when such requests stand together. Where the model is small and the samples are many, each thread generates for requests of
    /// its own; `done` is called on the calling thread.
    ///
    /// Errors: [`Error::Request`], for the first request that is not valid before anything is computed, and for one
    /// whose logits are not finite.
    pub fn generate(&self, requests: &[Request], done: Done<'_>) -> Result<Stats> {
        for (index, request) in requests.iter().enumerate() {
            self.validate(request).map_err(|error| error.of_request(index))?;
        }
        let context = self.limits().context;
        let longest = requests.iter().map(|request| request.longest_sequence(context)).max().unwrap_or(0);
        match workers::share(requests, self.options, self.decoder.weight_bytes(), longest) {
            (1, options) => self.run(requests, &Queue::new(requests.len(), 1), options, done),
            (workers, options) => workers::generate(self, requests, workers, options, done),
        }
    }

    /// Generates all samples of the requests that it takes from the queue.
    pub(crate) fn run(
        &self,
        requests: &[Request],
        queue: &Queue,
        options: EngineOptions,
        done: Done<'_>,
    ) -> Result<Stats> {
        let start = Instant::now();
        let config = self.decoder.config();
        let operands = self.decoder.cache_operands();
        let mut cache = Cache::new(config.num_hidden_layers, config.heads(), operands, options.blocks());
        let mut scheduler = Scheduler::new(requests, queue, options);
        let mut scratch = Default::default();
        let mut logits = Vec::new();
        let mut stats = Stats::default();
        while let Some(step) = scheduler.step(&mut cache) {
            let queries = scheduler.queries(&step);
            cache.hold(&queries);
            let mut attend =
                |layer: usize, asking: Option<&[usize]>, q: &[f32], k: &[f32], v: &[f32], out: &mut [f32]| {
                    cache.attend(layer, &queries, asking, q, k, v, out);
                };
            let outputs: Vec<usize> = step.outputs.iter().map(|output| output.row).collect();
            let hidden =
                self.decoder.hidden(&step.tokens, &step.positions, &outputs, &mut scratch, &mut attend);
            self.decoder.logits(hidden, outputs.len(), &mut logits);
            let readings = read(&scheduler.running, requests, &step.outputs, &logits, config.vocab_size)?;
            stats.steps += 1;
            stats.computed_prompt_tokens += step.prompt_rows;
            if self.settle(&mut scheduler, requests, readings, &mut stats, done)?.is_break() {
                break;
            }
        }
        stats.seconds = start.elapsed().as_secs_f64();
        Ok(stats)
    }

    /// What [`Engine::generate`] requires of each request. Error: [`Error::Context`] for a prompt that does not fit,
    /// [`Error::Cache`] for a cache too small for it, or what else is wrong.
    pub fn validate(&self, request: &Request) -> Result<()> {
        let (vocab_size, context) = (self.decoder.config().vocab_size, self.limits().context);
        request.validate(vocab_size, context)?;
        let (needed, capacity) = (request.longest_sequence(context), self.options.blocks() * BLOCK_TOKENS);
        if needed > capacity {
            return Err(Error::Cache { needed, prompt: request.prompt.len(), capacity });
        }
        Ok(())
    }

    /// Format of the packed weights.
    pub fn weights(&self) -> WeightFormat {
        self.options.weights
    }

    fn limits(&self) -> Limits<'_> {
        Limits {
            tokenizer: &self.tokenizer,
            end_tokens: &self.end_tokens,
            context: self.decoder.config().max_position_embeddings,
        }
    }

    /// Hands every reading, by index of the running sequence, to its sequence; sorts out which go on, and reports
    /// those that have ended.
    fn settle(
        &self,
        scheduler: &mut Scheduler<'_>,
        requests: &[Request],
        readings: Vec<(usize, Reading)>,
        stats: &mut Stats,
        done: Done<'_>,
    ) -> Result<ControlFlow<()>> {
        let mut readings = readings.into_iter().peekable();
        for (index, mut sequence) in std::mem::take(&mut scheduler.running).into_iter().enumerate() {
            let Some((_, reading)) = readings.next_if(|(sequence, _)| *sequence == index) else {
                scheduler.running.push(sequence);
                continue;
            };
            let (request_index, sample) = (sequence.request, sequence.sample);
            let request = &requests[request_index];
            let ended = match reading {
                Reading::FirstTokens(first_tokens) => {
                    stats.prompt_tokens += request.prompt.len();
                    stats.generated_tokens += first_tokens.len();
                    let flow = self.begin_samples(scheduler, request, sequence, &first_tokens, done)?;
                    if flow.is_break() {
                        return Ok(flow);
                    }
                    continue;
                }
                Reading::NextToken(drawn) => {
                    stats.generated_tokens += 1;
                    let ended = sequence.accept(Some(drawn), request, self.limits());
                    ended.map_err(|error| error.of_request(request_index))?
                }
                Reading::Options(probabilities) => sequence.conclude(probabilities),
            };
            match ended {
                None => scheduler.running.push(sequence),
                Some(generation) => {
                    scheduler.retire(sequence);
                    if done(request_index, sample, generation).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Replaces a computed prompt by its samples.
    fn begin_samples(
        &self,
        scheduler: &mut Scheduler<'_>,
        request: &Request,
        prompt: Sequence,
        first_tokens: &[Drawn],
        done: Done<'_>,
    ) -> Result<ControlFlow<()>> {
        let mut samples = Vec::with_capacity(request.streams.len());
        for sample in 0..request.streams.len() {
            let mut sequence = prompt.fork(sample);
            let ended = sequence.accept(first_tokens.get(sample).copied(), request, self.limits());
            match ended.map_err(|error| error.of_request(prompt.request))? {
                None => samples.push(sequence),
                Some(generation) => {
                    if done(prompt.request, sample, generation).is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
        }
        scheduler.enqueue_samples(samples);
        scheduler.retire(prompt);
        Ok(ControlFlow::Continue(()))
    }
}

/// Reads every row of logits for its sequence; rows in parallel.
fn read(
    running: &[Sequence],
    requests: &[Request],
    outputs: &[Output],
    logits: &[f32],
    vocab_size: usize,
) -> Result<Vec<(usize, Reading)>> {
    let rows = outputs.par_iter().zip(logits.par_chunks_exact(vocab_size));
    rows.map_init(Sampler::default, |sampler, (output, logits)| {
        let sequence = &running[output.sequence];
        let reading = sequence.read(logits, &requests[sequence.request], sampler);
        let reading = reading.map_err(|error| error.of_request(sequence.request))?;
        Ok((output.sequence, reading))
    })
    .collect()
}
