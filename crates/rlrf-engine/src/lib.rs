//! Generation: shared-prefix key/value cache, continuous batching, sampling, verdicts read from logits.
