//! A small model generates with one thread per worker, each with a cache and steps of its own: threads that compute every step
//! together would spend a fifth of their time in waiting for each other.

use std::ops::{ControlFlow, Range};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::blocks::BLOCK_TOKENS;
use crate::engine::{Done, Engine, Stats};
use crate::{EngineOptions, Request, Result};

/// Bytes of packed weights that stay near a processor's cores, so that each of them can read all.
const SMALL: usize = 32 << 20;

/// Samples that make it worth a worker's while.
const SAMPLES: usize = 32;

/// Parts that a worker's share of the requests is handed out in: the last ones keep all busy to the end.
const PARTS: usize = 8;

/// The requests that no worker has taken yet.
#[derive(Debug)]
pub(crate) struct Queue {
    next: AtomicUsize,
    requests: usize,
    /// How many are taken together: neighbours may begin alike.
    together: usize,
}

impl Queue {
    pub(crate) fn new(requests: usize, workers: usize) -> Self {
        let parts = if workers > 1 { PARTS * workers } else { 1 };
        Self { next: AtomicUsize::new(0), requests, together: requests.div_ceil(parts).max(1) }
    }

    /// The next requests; none when all are taken.
    pub(crate) fn take(&self) -> Range<usize> {
        let start = self.next.fetch_add(self.together, Ordering::Relaxed).min(self.requests);
        start..(start + self.together).min(self.requests)
    }
}

/// How many workers share the requests, and the options of each.
pub(crate) fn share(
    requests: &[Request],
    options: EngineOptions,
    weight_bytes: usize,
    longest: usize,
) -> (usize, EngineOptions) {
    let threads = rayon::current_num_threads();
    let samples: usize = requests.iter().map(|request| request.streams.len()).sum();
    let workers = if weight_bytes <= SMALL { threads.min(samples / SAMPLES).min(requests.len()) } else { 1 };
    let of_each = EngineOptions {
        max_rows: options.max_rows.div_ceil(workers.max(1)).max(options.max_rows.min(SAMPLES)),
        cache_tokens: options.cache_tokens / workers.max(1),
        ..options
    };
    match workers > 1 && longest <= of_each.blocks() * BLOCK_TOKENS && options.max_rows > 1 {
        true => (workers, of_each),
        false => (1, options),
    }
}

/// [`Engine::generate`] with several workers; `done` is called on this thread.
pub(crate) fn generate(
    engine: &Engine,
    requests: &[Request],
    workers: usize,
    options: EngineOptions,
    done: Done<'_>,
) -> Result<Stats> {
    let queue = Queue::new(requests.len(), workers);
    let stopped = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    let work = |sender: mpsc::Sender<_>| {
        let result = engine.run(requests, &queue, options, &mut |request, sample, generation| {
            let sent = sender.send((request, sample, generation));
            match sent.is_err() || stopped.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        if result.is_err() {
            stopped.store(true, Ordering::Relaxed);
        }
        result
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                let (work, sender) = (&work, sender.clone());
                scope.spawn(move || alone(|| work(sender)))
            })
            .collect();
        drop(sender);
        for (request, sample, generation) in receiver {
            if done(request, sample, generation).is_break() {
                stopped.store(true, Ordering::Relaxed);
                break;
            }
        }
        let results: Vec<_> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect();
        results.into_iter().sum()
    })
}

/// Runs `work` with one thread; with others where no thread is to be had, which changes no result.
fn alone<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(pool) => pool.install(work),
        Err(_) => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sampling;

    #[test]
    fn every_request_is_taken_once() {
        for (requests, workers) in [(0, 2), (1, 2), (7, 1), (100, 3), (1000, 2)] {
            let queue = Queue::new(requests, workers);
            let taken: Vec<usize> = std::iter::repeat_with(|| queue.take())
                .take_while(|range| !range.is_empty())
                .flatten()
                .collect();
            assert!(taken.into_iter().eq(0..requests));
            assert!(queue.take().is_empty());
        }
    }

    #[test]
    fn workers_share_many_samples_of_a_small_model() {
        let of = |samples: u64| Request {
            prompt: vec![1],
            streams: (0..samples).collect(),
            sampling: Sampling::default(),
            choice: None,
        };
        let (few, many) = (vec![of(20), of(20)], vec![of(40), of(40)]);
        let options = EngineOptions::default();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
        pool.install(|| {
            let (workers, of_each) = share(&many, options, SMALL, 100);
            assert_eq!((workers, of_each.max_rows, of_each.cache_tokens), (2, 64, options.cache_tokens / 2));
            assert_eq!(share(&few, options, SMALL, 100), (1, options));
            assert_eq!(share(&[], options, SMALL, 0), (1, options));
            assert_eq!(share(&many, options, SMALL + 1, 100), (1, options));
            assert_eq!(share(&many, options, SMALL, options.cache_tokens / 2 + 1), (1, options));
            let one_by_one = EngineOptions { max_rows: 1, ..options };
            assert_eq!(share(&many, one_by_one, SMALL, 100), (1, one_by_one));
        });
    }
}
