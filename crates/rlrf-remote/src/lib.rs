//! Models behind OpenAI-compatible chat endpoints (vLLM, SGLang, llama.cpp's server, TGI, OpenAI) as policies.
//!
//! [`RemotePolicy`] asks one model on one server, or on several that serve the same model (a fleet), many requests at a
//! time, and hands over each response as it comes. What may pass (rate limits, overload, a server that restarts) is
//! tried again; what cannot (a wrong key, an unknown model) ends with one error that says what to do.

mod chat;
mod choice;
mod client;
mod error;
mod fleet;
mod key;
mod models;
mod options;
mod policy;
mod url;

pub use error::Error;
pub use key::ApiKey;
pub use models::served_model;
pub use options::RemoteOptions;
pub use policy::RemotePolicy;
pub use url::{base_urls, is_url};
