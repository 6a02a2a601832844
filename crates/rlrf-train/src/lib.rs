//! Supervised and preference fine-tuning: objectives, packing, AdamW, checkpoints, metrics.
