//! What the tests of all operations share.

use rlrf_kernels::matmul::Operands;

/// Reproducible values in [-0.5, 0.5).
pub(crate) fn noise(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1 << 24) as f32 - 0.5
        })
        .collect()
}

/// Asserts that `actual` is within `tolerance` of `expected`, relative to the largest expected magnitude.
#[track_caller]
pub(crate) fn assert_close(actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(1e-30, |m: f64, x| m.max(x.abs()));
    for (i, (&a, &e)) in actual.iter().zip(expected).enumerate() {
        assert!((f64::from(a) - e).abs() <= tolerance * scale, "element {i}: {a} is not {e} (scale {scale})");
    }
}

/// Asserts equality to the bit.
#[track_caller]
pub(crate) fn assert_same_bits(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert_eq!(a.to_bits(), e.to_bits(), "element {i}: {a} is not {e}");
    }
}

/// The values in f64.
pub(crate) fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| f64::from(x)).collect()
}

/// Central differences of `loss` with respect to each element of `x`.
pub(crate) fn finite_differences(x: &[f64], mut loss: impl FnMut(&[f64]) -> f64) -> Vec<f64> {
    let step = 1e-5;
    let mut x = x.to_vec();
    (0..x.len())
        .map(|i| {
            let kept = x[i];
            x[i] = kept + step;
            let above = loss(&x);
            x[i] = kept - step;
            let below = loss(&x);
            x[i] = kept;
            (above - below) / (2.0 * step)
        })
        .collect()
}

/// Runs `work` in a pool of `threads` threads.
pub(crate) fn with_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool.install(work),
        Err(error) => panic!("no thread pool: {error}"),
    }
}

/// Operands of products that need not be packed before, as far as this processor has them.
pub(crate) fn kinds_of_operands() -> Vec<Operands> {
    let mut kinds = vec![Operands::F32, Operands::Bf16];
    if Operands::f32() == Operands::F32InTiles {
        kinds.push(Operands::F32InTiles);
    }
    kinds
}
