//! Rows that are rounded when they are written: products see the same bits as if they rounded them.

use rlrf_kernels::bf16::{narrow, widen};
use rlrf_kernels::matmul::Operands::{self, Bf16, F32};
use rlrf_kernels::matmul::{linear, linear_backward_input, linear_backward_weight};
use rlrf_kernels::norm::{add_rms_norm, rms_norm};
use rlrf_kernels::rows::{Rows, RowsRef};
use rlrf_kernels::swiglu::{Values, swiglu, swiglu_backward};

use crate::common::{assert_close, assert_same_bits, noise, with_threads};

/// Rows, inputs and outputs; smaller ones after larger ones, whose buffers they reuse.
const SHAPES: [(usize, usize, usize); 8] = [
    (1, 1, 1),
    (3, 17, 5),
    (300, 257, 200),
    (13, 70, 33),
    (70, 512, 65),
    (2, 64, 513),
    (45, 1536, 40),
    (0, 16, 8),
];

/// `x` as bf16 holds it.
fn bf16(x: &[f32]) -> Vec<f32> {
    let (mut narrowed, mut widened) = (vec![0; x.len()], vec![0.0; x.len()]);
    narrow(x, &mut narrowed);
    widen(&narrowed, &mut widened);
    widened
}

/// All three products of `x: [rows, inp]`, and of `dy: [rows, out]`, with one pair of weights, and the gradient of a bias.
fn products(
    operands: Operands,
    [x, dy]: [RowsRef<'_>; 2],
    (rows, inp, out): (usize, usize, usize),
) -> [Vec<f32>; 4] {
    let w = noise(out * inp, 2);
    let (mut y, mut dx) = (vec![f32::NAN; rows * out], vec![f32::NAN; rows * inp]);
    let (mut dw, mut db) = (noise(out * inp, 3), noise(out, 4));
    linear(operands, x, &w, None, &mut y, rows, inp, out);
    linear_backward_input(operands, dy, &w, &mut dx, rows, inp, out, false);
    linear_backward_weight(operands, dy, x, &mut dw, Some(&mut db), rows, inp, out);
    [y, dx, dw, db]
}

#[test]
fn normed_rows_are_rounded_as_products_round_them() {
    let (mut x_rows, mut dy_rows) = (Rows::default(), Rows::default());
    for operands in [Bf16, F32, Bf16] {
        for shape @ (rows, inp, out) in SHAPES {
            let norm = |width, seed, y: &mut [f32], to: &mut Rows| {
                let (x, weight) = (noise(rows * width, seed), noise(width, seed + 1));
                rms_norm(&x, &weight, 1e-5, &mut *y, &mut vec![0.0; rows]);
                with_threads(2, || {
                    rms_norm(&x, &weight, 1e-5, to.fit(operands, rows, width), &mut vec![0.0; rows]);
                });
            };
            let (mut x, mut dy) = (vec![0.0; rows * inp], vec![0.0; rows * out]);
            norm(inp, 10, &mut x, &mut x_rows);
            norm(out, 20, &mut dy, &mut dy_rows);
            let expected = products(operands, [(&x).into(), (&dy).into()], shape);
            let found = products(operands, [x_rows.read(), dy_rows.read()], shape);
            for (found, expected) in found.iter().zip(&expected).take(3) {
                assert_same_bits(found, expected);
            }
            let dy = if operands == Bf16 { bf16(&dy) } else { dy };
            let start = noise(out, 4);
            let sum = |o| (0..rows).fold(f64::from(start[o]), |sum, t| sum + f64::from(dy[t * out + o]));
            assert_close(&found[3], &(0..out).map(sum).collect::<Vec<_>>(), 1e-5);
        }
    }
}

#[test]
fn a_norm_that_adds_rounds_alike() {
    let (rows, width) = (37, 50);
    let (residual, delta, weight) = (noise(rows * width, 1), noise(rows * width, 2), noise(width, 3));
    let w = noise(width, 4);
    let of = |y: RowsRef<'_>| {
        let mut product = vec![0.0; rows];
        linear(Bf16, y, &w, None, &mut product, rows, width, 1);
        product
    };
    let (mut sum, mut inv_rms, mut y) = (vec![0.0; rows * width], vec![0.0; rows], vec![0.0; rows * width]);
    add_rms_norm(&residual, &delta, &weight, 1e-5, &mut sum, &mut y, &mut inv_rms);
    let mut rounded = Rows::default();
    let (mut sum_again, mut inv_rms_again) = (vec![0.0; rows * width], vec![0.0; rows]);
    let to = rounded.fit(Bf16, rows, width);
    add_rms_norm(&residual, &delta, &weight, 1e-5, &mut sum_again, to, &mut inv_rms_again);
    assert_same_bits(&sum_again, &sum);
    assert_same_bits(&inv_rms_again, &inv_rms);
    assert_same_bits(&of(rounded.read()), &of((&y).into()));
}

#[test]
fn gated_rows_and_their_gradients_are_rounded_as_products_round_them() {
    let mut rounded: [Rows; 4] = Default::default();
    for (rows, width, _) in SHAPES {
        let [gate, up, dy] = [1, 2, 3].map(|seed| noise(rows * width, seed));
        let (gate, up) = (bf16(&gate), bf16(&up));
        let [mut gate_kept, mut up_kept] = [vec![0; gate.len()], vec![0; up.len()]];
        narrow(&gate, &mut gate_kept);
        narrow(&up, &mut up_kept);
        let [mut y, mut y_again, mut dgate, mut dup] = std::array::from_fn(|_| vec![0.0; rows * width]);
        swiglu(&gate, &up, &mut y);
        let (gate_values, up_values) = (Values::F32(&gate), Values::F32(&up));
        swiglu_backward(&dy, gate_values, up_values, &mut y_again, &mut dgate, &mut dup);
        assert_same_bits(&y_again, &y);
        let kept = (Values::Bf16(&gate_kept), Values::Bf16(&up_kept));
        for (gate_values, up_values) in [(gate_values, up_values), kept] {
            let [forward, again, of_gate, of_up] =
                rounded.each_mut().map(|buffer| buffer.fit(Bf16, rows, width));
            with_threads(2, || {
                swiglu(&gate, &up, forward);
                swiglu_backward(&dy, gate_values, up_values, again, of_gate, of_up);
            });
            for (found, expected) in rounded.iter().zip([&y, &y, &dgate, &dup]) {
                let w = noise(3 * width, 4);
                let product = |x: RowsRef<'_>| {
                    let mut product = vec![0.0; rows * 3];
                    linear(Bf16, x, &w, None, &mut product, rows, width, 3);
                    product
                };
                assert_same_bits(&product(found.read()), &product(expected.into()));
            }
        }
    }
}

#[test]
#[should_panic(expected = "rounded to bf16")]
fn rounded_rows_are_not_for_products_in_f32() {
    let mut rounded = Rows::default();
    rms_norm(&[1.0; 8], &[1.0; 8], 1e-5, rounded.fit(Bf16, 1, 8), &mut [0.0]);
    linear(F32, rounded.read(), &[1.0; 8], None, &mut [0.0], 1, 8, 1);
}
