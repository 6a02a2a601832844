//! Speed of the kernels, as JSON lines: `cargo run --release -p rlrf-kernels --example measure`.

mod matmul;
mod operations;

use std::time::{Duration, Instant};

/// As in the binary, whose large buffers begin with a page: products read them where they lie.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    matmul::measure();
    if !std::env::args().any(|argument| argument == "matmul") {
        operations::measure();
    }
}

/// Seconds of the fastest run within a tenth of a second, after one that warms up.
pub(crate) fn best(mut run: impl FnMut()) -> f64 {
    let end = Instant::now() + Duration::from_millis(100);
    let mut fastest = f64::INFINITY;
    run();
    while fastest.is_infinite() || Instant::now() < end {
        let start = Instant::now();
        run();
        fastest = fastest.min(start.elapsed().as_secs_f64());
    }
    fastest
}

pub(crate) fn noise(len: usize) -> Vec<f32> {
    (0..len as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 8) as f32 / (1 << 24) as f32 - 0.5).collect()
}
