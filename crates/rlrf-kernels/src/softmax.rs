//! Vectorised exponentials, softmax and log-sum-exp.

use crate::simd;

simd! {
    /// `x = softmax(x)` in place. Entries of negative infinity become 0; if all are, the result is NaN.
    pub fn softmax(x: &mut [f32]) {
        let largest = simd::max(x);
        let sum = simd::exp_in_place(x, 1.0, largest);
        let inverse = 1.0 / sum;
        for value in x {
            *value *= inverse;
        }
    }
}

simd! {
    /// `log(sum(exp(x)))`, stable; negative infinity if every entry is (or there is none).
    pub fn logsumexp(x: &[f32]) -> f32 {
        let largest = simd::max(x);
        if largest == f32::NEG_INFINITY && !x.iter().any(|value| value.is_nan()) {
            return largest;
        }
        largest + simd::sum_exp(x, largest).ln()
    }
}
