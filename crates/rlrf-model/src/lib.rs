//! Decoder models in Hugging Face layout: configuration, weights, tokenizer, chat template, and one explicit
//! decoder with forward and backward for the families Llama, Mistral, Qwen2 and Qwen3.

pub mod batch;
mod bpe;
pub mod chat;
mod computation;
pub mod config;
pub mod decoder;
pub mod error;
mod fields;
pub mod folder;
pub mod inference;
mod lora;
pub mod parameters;
mod peft;
pub mod preset;
mod reward;
pub mod tokenizer;
pub mod weights;

pub use batch::Batch;
pub use chat::{ChatMessage, ChatTemplate};
pub use computation::{Computation, Precision, WeightFormat};
pub use config::{Family, Head, ModelConfig, RopeScaling};
pub use decoder::{Activations, Decoder};
pub use error::{Error, Result};
pub use folder::Model;
pub use inference::InferenceDecoder;
pub use lora::{Adapter, LoraConfig};
pub use parameters::{Layout, ParameterEntry};
pub use preset::Preset;
pub use tokenizer::Tokenizer;
