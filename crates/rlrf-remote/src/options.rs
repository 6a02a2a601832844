//! How endpoints are asked.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::key::ApiKey;

/// How endpoints are asked: speed and patience. None of it changes a response.
#[derive(Debug, Clone)]
pub struct RemoteOptions {
    /// Requests under way at each server.
    pub in_flight: usize,
    /// Longest wait for one response.
    pub timeout: Duration,
    /// Attempts at one request before the error ends everything.
    pub attempts: u32,
    /// Wait after the first failed attempt; it doubles with each further one.
    pub first_wait: Duration,
    /// Longest wait between two attempts, unless the server asks for a longer one.
    pub longest_wait: Duration,
    /// The key, where the server wants one.
    pub key: Option<ApiKey>,
    /// Asked while requests are under way: whether the user wants to stop.
    pub interrupted: fn() -> bool,
}

impl Default for RemoteOptions {
    /// 32 requests at a time; eight attempts over about a minute. The key comes from the environment.
    fn default() -> Self {
        Self {
            in_flight: 32,
            timeout: Duration::from_secs(600),
            attempts: 8,
            first_wait: Duration::from_millis(500),
            longest_wait: Duration::from_secs(30),
            key: ApiKey::from_environment(),
            interrupted: || false,
        }
    }
}

impl RemoteOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        let at_least = |option, value: String, good: bool| match good {
            true => Ok(()),
            false => Err(Error::Option { option, value, message: "must be at least 1" }),
        };
        at_least("in_flight", self.in_flight.to_string(), self.in_flight > 0)?;
        at_least("attempts", self.attempts.to_string(), self.attempts > 0)?;
        at_least("timeout", format!("{:?}", self.timeout), self.timeout >= Duration::from_secs(1))
    }
}
