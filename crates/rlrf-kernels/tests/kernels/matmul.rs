//! Matrix products: against a plain chain, and the same bits for any rows, threads and packing.

use crate::common::{assert_close, assert_same_bits, kinds_of_operands, noise, wide, with_threads};
use rlrf_kernels::matmul::Operands::{self, Bf16, F32, F32InTiles, Int8};
use rlrf_kernels::matmul::{
    InputGradient, PackedLinear, Weights, backward_inputs, bf16_in_tiles, linear, linear_backward_input,
    linear_backward_weight, project,
};

const SHAPES: [(usize, usize, usize); 7] =
    [(1, 1, 1), (3, 17, 5), (13, 70, 33), (40, 300, 129), (1, 64, 513), (150, 96, 160), (300, 257, 200)];

/// `x` rounded to bf16 by way of f64: to the nearest of 8 significant bits.
fn bf16(x: f32) -> f32 {
    if x == 0.0 {
        return x;
    }
    let ulp = 2f64.powi(f64::from(x.abs()).log2().floor() as i32 - 7);
    ((f64::from(x) / ulp).round_ties_even() * ulp) as f32
}

/// The bf16 with this index of those that `x` is the sum of.
fn split(x: f32, index: usize) -> f32 {
    bf16((0..index).fold(x, |rest, _| rest - bf16(rest)))
}

/// One chain of fused multiply-adds per element: in ascending `k`, or by pairs of `k` from the second to the first. In tiles:
/// of 32 `k`, those of even and of odd `k` in a chain each, both then added to the sum. f32 in tiles: the same of six pairs of the bf16
/// that both are split into, one after the other.
fn chain(
    operands: Operands,
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
    c: &mut [f32],
    n: usize,
    k: usize,
) {
    let planes = |count: usize, of: &dyn Fn(usize, usize) -> f32| -> Vec<Vec<f32>> {
        let planes = if operands == F32InTiles { 3 } else { 1 };
        (0..planes).map(|plane| (0..count * k).map(|at| split(of(at / k, at % k), plane)).collect()).collect()
    };
    let (a_planes, b_planes) = (planes(c.len() / n.max(1), &a), planes(n, &b));
    for (at, c) in c.iter_mut().enumerate() {
        let (row, column) = (at / n * k, at % n * k);
        let (a, b) = (|l| a(at / n, l), |l| b(at % n, l));
        let add = |sum: f32, l: usize| a_planes[0][row + l].mul_add(b_planes[0][column + l], sum);
        let in_tiles = |start: f32, pairs: &[(usize, usize)]| {
            (0..k).step_by(32).fold(start, |sum, first| {
                let end = k.min(first + 32);
                pairs.iter().fold(sum, |sum, &(of_a, of_b)| {
                    let (a, b) = (&a_planes[of_a][row..], &b_planes[of_b][column..]);
                    let add = |sum: f32, l: usize| a[l].mul_add(b[l], sum);
                    let chain = |first| (first..end).step_by(2).fold(0.0, add);
                    sum + (chain(first) + chain(first + 1))
                })
            })
        };
        *c = match operands {
            Bf16 if bf16_in_tiles() => in_tiles(*c, &[(0, 0)]),
            F32InTiles => in_tiles(*c, &[(0, 2), (0, 1), (1, 1), (1, 0), (0, 0), (2, 0)]),
            Bf16 => (0..k.next_multiple_of(2)).map(|l| l ^ 1).filter(|&l| l < k).fold(*c, add),
            _ => (0..k).fold(*c, |sum, l| a(l).mul_add(b(l), sum)),
        };
    }
}

/// Every shape with every kind of operands.
fn all<T: Copy + 'static, const N: usize>(shapes: [T; N]) -> impl Iterator<Item = (Operands, T)> {
    kinds_of_operands()
        .into_iter()
        .flat_map(move |operands| shapes.into_iter().map(move |shape| (operands, shape)))
}

#[test]
fn linear_is_one_chain_per_element_then_the_bias() {
    for (operands, (rows, inp, out)) in all(SHAPES) {
        let (x, w, bias) = (noise(rows * inp, 1), noise(out * inp, 2), noise(out, 3));
        let mut expected = vec![0.0; rows * out];
        chain(operands, |t, i| x[t * inp + i], |o, i| w[o * inp + i], &mut expected, out, inp);
        let mut y = vec![f32::NAN; rows * out];
        linear(operands, &x, &w, None, &mut y, rows, inp, out);
        assert_same_bits(&y, &expected);
        for (at, y) in expected.iter_mut().enumerate() {
            *y += bias[at % out];
        }
        linear(operands, &x, &w, Some(&bias), &mut y, rows, inp, out);
        assert_same_bits(&y, &expected);
        y.fill(f32::NAN);
        PackedLinear::new(operands, &w, Some(&bias), inp, out).forward(&x, &mut y, rows);
        assert_same_bits(&y, &expected);
    }
}

#[test]
fn backwards_are_one_chain_per_element() {
    for (operands, (rows, inp, out)) in all(SHAPES) {
        let (x, w, dy) = (noise(rows * inp, 4), noise(out * inp, 5), noise(rows * out, 6));
        let start = noise(rows * inp, 7);
        let mut expected = vec![0.0; rows * inp];
        chain(operands, |t, o| dy[t * out + o], |i, o| w[o * inp + i], &mut expected, inp, out);
        let mut dx = vec![f32::NAN; rows * inp];
        linear_backward_input(operands, &dy, &w, &mut dx, rows, inp, out, false);
        assert_same_bits(&dx, &expected);
        expected.clone_from(&start);
        chain(operands, |t, o| dy[t * out + o], |i, o| w[o * inp + i], &mut expected, inp, out);
        dx.clone_from(&start);
        linear_backward_input(operands, &dy, &w, &mut dx, rows, inp, out, true);
        assert_same_bits(&dx, &expected);

        let (start, start_bias) = (noise(out * inp, 8), noise(out, 9));
        let mut expected = start.clone();
        chain(operands, |o, t| dy[t * out + o], |i, t| x[t * inp + i], &mut expected, inp, rows);
        let (mut dw, mut db) = (start, start_bias.clone());
        linear_backward_weight(operands, &dy, &x, &mut dw, Some(&mut db), rows, inp, out);
        assert_same_bits(&dw, &expected);
        let sums: Vec<f64> = (0..out)
            .map(|o| f64::from(start_bias[o]) + (0..rows).map(|t| f64::from(dy[t * out + o])).sum::<f64>())
            .collect();
        assert_close(&db, &sums, 1e-5);
    }
}

/// Of numbers whose sizes differ by far more than f32 resolves.
#[test]
fn f32_in_tiles_is_more_exact_than_a_chain() {
    if !bf16_in_tiles() {
        return;
    }
    let (rows, inp, out) = (40, 700, 50);
    let spread = |values: Vec<f32>| -> Vec<f32> { values.iter().map(|x| x * (12.0 * x).exp()).collect() };
    let (x, w) = (spread(noise(rows * inp, 1)), spread(noise(out * inp, 2)));
    let error = |operands| {
        let mut y = vec![f32::NAN; rows * out];
        linear(operands, &x, &w, None, &mut y, rows, inp, out);
        let (mut squares, mut worst) = (0.0, 0f64);
        for (at, y) in y.iter().enumerate() {
            let (x, w) = (&x[at / out * inp..][..inp], &w[at % out * inp..][..inp]);
            let terms = || x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w));
            let error = (f64::from(*y) - terms().sum::<f64>()) / terms().map(f64::abs).sum::<f64>();
            squares += error * error;
            worst = worst.max(error.abs());
        }
        ((squares / y.len() as f64).sqrt(), worst)
    };
    let (chain, in_tiles) = (error(F32), error(F32InTiles));
    assert!(in_tiles.0 < chain.0 && in_tiles.1 < 1e-6, "{in_tiles:?} and {chain:?}");
}

#[test]
fn a_row_is_the_same_alone_and_in_a_batch() {
    let (rows, inp, out) = (29, 200, 150);
    let (x, w) = (noise(rows * inp, 1), noise(out * inp, 2));
    for operands in kinds_of_operands().into_iter().chain([Int8]) {
        let packed = PackedLinear::new(operands, &w, None, inp, out);
        let mut together = vec![0.0; rows * out];
        packed.forward(&x, &mut together, rows);
        for count in [1, 2, 3, 4, 5, 7, 8, 12, 13, 25] {
            let mut y = vec![0.0; count * out];
            packed.forward(&x[inp..(1 + count) * inp], &mut y, count);
            assert_same_bits(&y, &together[out..(1 + count) * out]);
        }
    }
}

#[test]
fn eight_bits_are_within_half_a_step_of_the_weights() {
    for (rows, inp, out) in SHAPES {
        let (x, w, bias) = (noise(rows * inp, 1), noise(out * inp, 2), noise(out, 3));
        let packed = PackedLinear::new(Int8, &w, Some(&bias), inp, out);
        let mut read = vec![f32::NAN; out * inp];
        for (row, read) in read.chunks_exact_mut(inp).enumerate() {
            packed.read_row(row, read);
        }
        for (read, w) in read.chunks_exact(inp).zip(w.chunks_exact(inp)) {
            let step = w.iter().fold(0f32, |most, w| most.max(w.abs())) / 127.0;
            assert!(read.iter().zip(w).all(|(read, w)| (read - w).abs() <= 0.501 * step));
        }
        let mut y = vec![f32::NAN; rows * out];
        packed.forward(&x, &mut y, rows);
        // The left operand is rounded alike, in blocks of 64.
        let mut rounded = x.clone();
        for block in rounded.chunks_exact_mut(inp).flat_map(|row| row.chunks_mut(64)) {
            let step = block.iter().fold(0f32, |most, x| most.max(x.abs())) / 127.0;
            block.iter_mut().for_each(|x| *x = (*x / step).round_ties_even() * step);
        }
        let expected: Vec<f64> = (0..rows * out)
            .map(|at| {
                let (x, w) = (&rounded[at / out * inp..][..inp], &read[at % out * inp..][..inp]);
                let sum: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                sum + f64::from(bias[at % out])
            })
            .collect();
        assert_close(&y, &expected, 1e-3);
    }
}

#[test]
fn eight_bits_hide_no_broken_number_and_no_tiny_one_breaks_them() {
    let run = |w: [f32; 4], x: [f32; 2]| {
        let mut y = [0.0; 2];
        PackedLinear::new(Int8, &w, None, 2, 2).forward(&x, &mut y, 1);
        y
    };
    for broken in [f32::NAN, f32::INFINITY] {
        assert!(run([1.0; 4], [broken, 1.0]).iter().all(|y| y.is_nan()));
        let y = run([broken, 1.0, 1.0, 1.0], [1.0, 1.0]);
        assert!(y[0].is_nan() && (y[1] - 2.0).abs() < 0.02);
    }
    assert_eq!(run([1.0; 4], [1e-40, 1e-39]), [0.0; 2]);
    assert_eq!(run([1e-40; 4], [1.0, 1.0]), [0.0; 2]);
}

#[test]
fn products_together_are_the_products_alone() {
    let (rows, inp, outs) = (70, 150, [257, 16, 1, 90]);
    let x = noise(rows * inp, 1);
    let weights: Vec<Vec<f32>> = outs.iter().map(|out| noise(out * inp, *out as u64)).collect();
    for operands in kinds_of_operands() {
        for threads in [1, 3] {
            let mut ys: Vec<Vec<f32>> = outs.iter().map(|out| vec![f32::NAN; rows * out]).collect();
            let mut projections: Vec<_> = weights
                .iter()
                .zip(outs)
                .zip(&mut ys)
                .map(|((w, out), y)| (Weights::Plain { w, bias: None, out }, &mut y[..]))
                .collect();
            with_threads(threads, || project(operands, &x, rows, inp, &mut projections));
            for ((w, out), y) in weights.iter().zip(outs).zip(&ys) {
                let mut alone = vec![0.0; rows * out];
                linear(operands, &x, w, None, &mut alone, rows, inp, out);
                assert_same_bits(y, &alone);
            }
            let mut dxs: Vec<Vec<f32>> = outs.iter().map(|out| noise(rows * out, 9)).collect();
            // The same numbers as weights of as many inputs: `[inp, out]`.
            let mut gradients: Vec<_> = weights
                .iter()
                .zip(outs)
                .zip(&mut dxs)
                .map(|((w, inp), dx)| InputGradient { w, dx, inp, accumulate: inp > 20 })
                .collect();
            with_threads(threads, || backward_inputs(operands, &x, rows, inp, &mut gradients));
            for ((w, out), dx) in weights.iter().zip(outs).zip(&dxs) {
                let mut alone = noise(rows * out, 9);
                linear_backward_input(operands, &x, w, &mut alone, rows, out, inp, out > 20);
                assert_same_bits(dx, &alone);
            }
        }
    }
}

#[test]
fn packed_rows_read_back_as_they_were() {
    for (operands, (_, inp, out)) in all(SHAPES) {
        let w = noise(out * inp, 2);
        let packed = PackedLinear::new(operands, &w, None, inp, out);
        let mut row = vec![f32::NAN; inp];
        for (at, expected) in w.chunks_exact(inp).enumerate() {
            packed.read_row(at, &mut row);
            let expected = expected.iter().map(|&w| if operands == Bf16 { bf16(w) } else { w });
            assert_same_bits(&row, &expected.collect::<Vec<_>>());
        }
    }
}

#[test]
fn threads_change_nothing() {
    let (rows, inp, out) = (200, 130, 330);
    let (x, w, dy) = (noise(rows * inp, 1), noise(out * inp, 2), noise(rows * out, 3));
    for operands in kinds_of_operands() {
        let run = || {
            let (mut y, mut dx, mut dw) =
                (vec![0.0; rows * out], vec![0.0; rows * inp], vec![0.0; out * inp]);
            linear(operands, &x, &w, None, &mut y, rows, inp, out);
            linear_backward_input(operands, &dy, &w, &mut dx, rows, inp, out, false);
            linear_backward_weight(operands, &dy, &x, &mut dw, None, rows, inp, out);
            [y, dx, dw].concat()
        };
        let alone = with_threads(1, run);
        for threads in [2, 3, 7] {
            assert_same_bits(&with_threads(threads, run), &alone);
        }
        assert!(wide(&alone).iter().all(|x| x.is_finite()));
    }
}

#[test]
fn empty_shapes_are_no_work() {
    linear(F32, &[], &[1.0, 2.0], None, &mut [], 0, 2, 1);
    let mut y = [7.0];
    linear(F32, &[], &[], Some(&[3.0]), &mut y, 1, 0, 1);
    assert_eq!(y, [3.0]);
    linear_backward_weight(F32, &[], &[], &mut [1.0, 2.0], None, 0, 2, 1);
}
