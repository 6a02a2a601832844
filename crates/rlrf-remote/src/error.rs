//! Why an endpoint could not be asked, or did not answer.

use std::time::Duration;

/// Result of this crate.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// What went wrong, where, and what to do about it. No message holds the key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What should be the address of an endpoint is none.
    #[error("{url}: {message}")]
    Url {
        /// As the user wrote it.
        url: String,
        /// What is wrong and what to do.
        message: String,
    },
    /// An option is out of its range.
    #[error("endpoint: {option} = {value}: {message}")]
    Option {
        /// The option.
        option: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        message: &'static str,
    },
    /// The program cannot make requests at all.
    #[error("cannot make HTTP requests: {0}")]
    Client(String),
    /// The server does not accept the key, or wants one.
    #[error("{url} (model {model:?}): the server {} (HTTP {status}{detail}): {}", key_state(*sent), key_advice(*sent))]
    Key {
        /// The address that was asked.
        url: String,
        /// The model.
        model: String,
        /// The server's answer.
        status: u16,
        /// What the server says, after a comma; may be empty.
        detail: String,
        /// Whether a key was sent.
        sent: bool,
    },
    /// There is no such model, or no such address.
    #[error(
        "{url} (model {model:?}): not found (HTTP {status}{detail}): check the model's name (`GET` of .../models lists \
         the names) and the address, which ends in /v1 as a rule"
    )]
    NotFound {
        /// The address that was asked.
        url: String,
        /// The model.
        model: String,
        /// The server's answer.
        status: u16,
        /// What the server says, after a comma; may be empty.
        detail: String,
    },
    /// The prompt and the response wanted do not fit into the model's context.
    #[error(
        "{url} (model {model:?}): {prompt} is too long for the model's context (HTTP {status}{detail}): shorten it, \
         lower the longest response, or serve the model with a longer context"
    )]
    Context {
        /// The address that was asked.
        url: String,
        /// The model.
        model: String,
        /// The server's answer.
        status: u16,
        /// What the server says, after a comma.
        detail: String,
        /// How the prompt begins.
        prompt: String,
    },
    /// The server refuses the request for good.
    #[error("{url} (model {model:?}): the server refuses the request (HTTP {status}{detail}): {advice}")]
    Refused {
        /// The address that was asked.
        url: String,
        /// The model.
        model: String,
        /// The server's answer.
        status: u16,
        /// What the server says, after a comma; may be empty.
        detail: String,
        /// What to do.
        advice: String,
    },
    /// The server answers, but not with a response of the model.
    #[error("{url} (model {model:?}): {message}")]
    Reply {
        /// The address that was asked.
        url: String,
        /// The model.
        model: String,
        /// What came instead, and what to do.
        message: String,
    },
    /// No attempt succeeded.
    #[error(
        "{url} (model {model:?}): no success in {attempts} attempts over {} s (the last: {last}): see that the server is \
         up and not overloaded, then repeat the command; what is finished is kept",
        spent.as_secs()
    )]
    GivenUp {
        /// The address that was asked last.
        url: String,
        /// The model.
        model: String,
        /// How often it was tried.
        attempts: u32,
        /// From the first attempt on.
        spent: Duration,
        /// What happened last.
        last: String,
    },
    /// Several models are served, or none: one must be named.
    #[error("{url}: {message}")]
    Models {
        /// The address that was asked.
        url: String,
        /// The models there, and what to do.
        message: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl From<Error> for rlrf_method::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Interrupted => Self::Interrupted,
            error => Self::Backend(error.to_string()),
        }
    }
}

fn key_state(sent: bool) -> &'static str {
    if sent { "does not accept the API key" } else { "wants an API key, and none is set" }
}

fn key_advice(sent: bool) -> &'static str {
    if sent {
        "check the value of RLRF_API_KEY (or OPENAI_API_KEY, where that is not set) and what the key may do"
    } else {
        "set RLRF_API_KEY (or OPENAI_API_KEY)"
    }
}
