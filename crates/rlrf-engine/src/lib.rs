//! Generation: shared-prefix key/value cache, continuous batching, sampling, verdicts read from logits.
//!
//! A [`Request`] is one prompt with any number of samples; [`Engine::generate`] takes any number of requests and
//! reports each sample as it ends. Prompts are computed once for all their samples, and once for all
//! prompts that begin alike.
//!
//! How it fits together, each part a file: a *sequence* is a list of tokens of which the first `computed` are
//! in the cache; the *scheduler* decides at every step which sequences advance, and hands out *blocks* of the
//! *cache*; the decoder runs all their missing tokens in one call; the *sampler* draws a token for every
//! sequence that has caught up; *stop* strings end texts. Prefill, decoding, forced verdict prefixes and the
//! return of a displaced sequence are all the same thing: tokens that are not in the cache yet.
//!
//! With a small model and many samples, each thread does all of this for requests of its own (*workers*).
//!
//! A sample depends on the model, its prompt, its sampling and its random stream alone: never on who shares
//! its batch, on the options of the engine, or on the number of threads.

mod blocks;
mod cache;
mod engine;
mod error;
mod request;
mod sampler;
mod scheduler;
mod sequence;
mod stop;
mod workers;

pub use engine::{Engine, EngineOptions, Stats};
pub use error::{Error, Result};
pub use request::{Choice, FinishReason, Generation, Request, Sampling};
