//! Speed of the matrix products.

use std::hint::black_box;

use rlrf_kernels::matmul::{Operands, PackedLinear, linear, linear_backward_input, linear_backward_weight};

use crate::{best, noise};

const SHAPES: [(usize, usize, usize); 8] = [
    (1024, 576, 1536),
    (1024, 1536, 576),
    (16, 576, 1536),
    (1, 576, 1536),
    (2048, 256, 1024),
    (64, 256, 1024),
    (1, 256, 1024),
    (128, 128, 128),
];

/// Prints a JSON line per operation and shape.
pub(crate) fn measure() {
    let threads = rayon::current_num_threads();
    // Inside the pool, as a training step would be.
    rayon::scope(|_| {
        for (operands, (rows, inp, out)) in [Operands::F32, Operands::Bf16]
            .into_iter()
            .flat_map(|operands| SHAPES.map(|shape| (operands, shape)))
        {
            let x = noise(rows * inp);
            let w = noise(out * inp);
            let dy = noise(rows * out);
            let mut y = vec![0.0; rows * out];
            let mut dx = vec![0.0; rows * inp];
            let mut dw = vec![0.0; out * inp];
            let packed = PackedLinear::new(operands, &w, None, inp, out);
            let gflop = 2.0 * (rows * inp * out) as f64 / 1e9;
            let report = |operation: &str, seconds: f64| {
                println!(
                    "{{\"operation\":\"{operation}\",\"operands\":\"{operands:?}\",\"rows\":{rows},\"in\":{inp},\"out\":{out},\"threads\":{threads},\
                     \"microseconds\":{:.1},\"gflops\":{:.1}}}",
                    seconds * 1e6,
                    gflop / seconds
                );
            };
            report("linear", best(|| linear(operands, black_box(&x), &w, None, &mut y, rows, inp, out)));
            report(
                "backward_input",
                best(|| linear_backward_input(operands, black_box(&dy), &w, &mut dx, rows, inp, out, false)),
            );
            report(
                "backward_weight",
                best(|| linear_backward_weight(operands, black_box(&dy), &x, &mut dw, None, rows, inp, out)),
            );
            report("packed", best(|| packed.forward(black_box(&x), &mut y, rows)));
            if operands == Operands::F32 {
                let packed = PackedLinear::new(Operands::Int8, &w, None, inp, out);
                report("packed int8", best(|| packed.forward(black_box(&x), &mut y, rows)));
            }
        }
    });
}
