//! Vectorised exponentials, softmax and log-sum-exp.

/// `x = softmax(x)` in place.
pub fn softmax(x: &mut [f32]) { todo!() }
/// `log(sum(exp(x)))`, stable.
pub fn logsumexp(x: &[f32]) -> f32 { todo!() }
