//! Matrix products: against a plain chain, and the same bits for any rows, threads and packing.

use crate::common::{assert_close, assert_same_bits, kinds_of_operands, noise, wide, with_threads};
use rlrf_kernels::matmul::Operands::{self, Bf16, F32, F32InTiles, Int8};
use rlrf_kernels::matmul::{
    InputGradient, PackedLinear, Weights, backward_inputs, has_tiles, linear, linear_backward_input,
    linear_backward_weight, project,
};

const SHAPES: [(usize, usize, usize); 10] = [
    (1, 1, 1),
    (3, 17, 5),
    (13, 70, 33),
    (40, 300, 129),
    (1, 64, 513),
    (150, 96, 160),
    (300, 257, 200),
    // More than a segment along each dimension.
    (17, 1600, 24),
    (1600, 24, 17),
    (17, 24, 1600),
];

/// `x` rounded to bf16 by way of f64: to the nearest of 8 significant bits.
fn bf16(x: f32) -> f32 {
    if x == 0.0 {
        return x;
    }
    let ulp = 2f64.powi(f64::from(x.abs()).log2().floor() as i32 - 7);
    ((f64::from(x) / ulp).round_ties_even() * ulp) as f32
}

/// Elements of the inner dimension that share a scale where f32 is multiplied in tiles.
const SEGMENT: usize = 768;

/// The digits of base 256, the largest one first, that stand for the elements of a segment in tiles; and their scale.
fn digits(segment: &[f32]) -> (Vec<[i32; 3]>, f32) {
    let largest = segment.iter().fold(0f32, |most, x| most.max(x.abs()));
    let factor = 127.498 / largest;
    let digits = segment.iter().map(|x| {
        let number = (x * factor * 65_536.0).round_ties_even() as i32;
        let nearest = |x: i32| (x + 128).rem_euclid(256) - 128;
        let third = nearest(number);
        let second = nearest((number - third) / 256);
        [((number - third) / 256 - second) / 256, second, third]
    });
    (digits.collect(), largest / 127.498)
}

/// f32 in tiles: of each segment, the sums of all products of digits but the smallest three, exactly; then the parts.
fn sum_of_segments(a: &[f32], b: &[f32], start: f32) -> f32 {
    a.chunks(SEGMENT).zip(b.chunks(SEGMENT)).fold(start, |sum, (a, b)| {
        let ((a, a_scale), (b, b_scale)) = (digits(a), digits(b));
        let products = |pairs: &[(usize, usize)]| {
            let products = a.iter().zip(&b).flat_map(|(a, b)| pairs.iter().map(|&(i, j)| a[i] * b[j]));
            products.sum::<i32>() as f32
        };
        let small = products(&[(0, 2), (1, 1), (2, 0)]) / 65_536.0;
        let digits = products(&[(0, 0)]) + products(&[(0, 1), (1, 0)]).mul_add(1.0 / 256.0, small);
        digits.mul_add(a_scale * b_scale, sum)
    })
}

/// One chain of fused multiply-adds per element: in ascending `k`, or by pairs of `k` from the second to the first. In tiles:
/// of 32 `k`, those of even and of odd `k` in a chain each, both then added to the sum. f32 in tiles: [`sum_of_segments`].
fn chain(
    operands: Operands,
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
    c: &mut [f32],
    n: usize,
    k: usize,
) {
    let rounded = |x: f32| if operands == Bf16 { bf16(x) } else { x };
    for (at, c) in c.iter_mut().enumerate() {
        let row: Vec<f32> = (0..k).map(|l| rounded(a(at / n, l))).collect();
        let column: Vec<f32> = (0..k).map(|l| rounded(b(at % n, l))).collect();
        let add = |sum: f32, l: usize| row[l].mul_add(column[l], sum);
        *c = match operands {
            Bf16 if has_tiles() => (0..k).step_by(32).fold(*c, |sum, first| {
                let chain = |from| (from..k.min(first + 32)).step_by(2).fold(0.0, add);
                sum + (chain(first) + chain(first + 1))
            }),
            F32InTiles => sum_of_segments(&row, &column, *c),
            Bf16 => (0..k.next_multiple_of(2)).map(|l| l ^ 1).filter(|&l| l < k).fold(*c, add),
            _ => (0..k).fold(*c, add),
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

/// By the norms of both operands: whatever the sizes of the numbers, the error is of the order of rounding the result to f32, and among numbers of like sizes not
/// larger than a chain's.
#[test]
fn f32_in_tiles_is_about_as_exact_as_a_chain() {
    if !has_tiles() {
        return;
    }
    let (rows, inp, out) = (40, 700, 50);
    for spread in [0.0, 2.0, 12.0] {
        let values = |count, seed| -> Vec<f32> {
            noise(count * inp, seed).iter().map(|x| x * (spread * x).exp()).collect()
        };
        let (x, w) = (values(rows, 1), values(out, 2));
        let error = |operands| {
            let mut y = vec![f32::NAN; rows * out];
            linear(operands, &x, &w, None, &mut y, rows, inp, out);
            let squares = y.iter().enumerate().map(|(at, y)| {
                let (x, w) = (&x[at / out * inp..][..inp], &w[at % out * inp..][..inp]);
                let dot = |x: &[f32], w: &[f32]| -> f64 {
                    x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum()
                };
                (f64::from(*y) - dot(x, w)).powi(2) / (dot(x, x) * dot(w, w))
            });
            (squares.sum::<f64>() / (rows * out) as f64).sqrt()
        };
        let (chain, in_tiles) = (error(F32), error(F32InTiles));
        let most = if spread == 0.0 { chain } else { f64::from(f32::EPSILON) / 2.0 };
        assert!(in_tiles < most, "{spread}: {in_tiles:e}, a chain's {chain:e}");
    }
}

#[test]
fn f32_in_tiles_hides_no_broken_number_and_takes_all_sizes() {
    if !has_tiles() {
        return;
    }
    let (rows, inp, out) = (20, 900, 3);
    let (x, w) = (vec![1.0; rows * inp], vec![1.0; out * inp]);
    let run = |x: &[f32], w: &[f32]| {
        let mut y = vec![0.0; rows * out];
        linear(F32InTiles, x, w, None, &mut y, rows, inp, out);
        y
    };
    for broken in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let (mut in_x, mut in_w) = (x.clone(), w.clone());
        in_x[5 * inp + 800] = broken;
        in_w[inp] = broken;
        for (at, y) in run(&in_x, &w).iter().enumerate() {
            assert_eq!(y.is_nan(), at / out == 5, "{at}: {y}");
        }
        for (at, y) in run(&x, &in_w).iter().enumerate() {
            assert_eq!(y.is_nan(), at % out == 1, "{at}: {y}");
        }
    }
    for size in [1e-35, 1e-30, 1e-3, 1e30, 3e35] {
        let sized = vec![size; rows * inp];
        let expected = vec![f64::from(size) * inp as f64; rows * out];
        assert_close(&run(&sized, &w), &expected, 1e-6);
    }
    assert!(run(&vec![1e-40; rows * inp], &w).iter().all(|y| *y == 0.0));
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
            match operands {
                Bf16 => assert_same_bits(&row, &expected.iter().map(|&w| bf16(w)).collect::<Vec<_>>()),
                F32InTiles => assert_close(&row, &wide(expected), 1e-6),
                _ => assert_same_bits(&row, expected),
            }
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

/// The numbers from `offset` elements after the beginning of a line of the cache on.
fn placed(numbers: &[f32], offset: usize) -> (Vec<f32>, std::ops::Range<usize>) {
    let mut room = vec![f32::NAN; numbers.len() + 32];
    let start = room.as_ptr().align_offset(64) + offset;
    let range = start..start + numbers.len();
    room[range.clone()].copy_from_slice(numbers);
    (room, range)
}

/// Some are read where they lie, from whole lines, and others packed: of the last shapes, only the last columns.
#[test]
fn where_operands_lie_changes_nothing() {
    for (operands, (rows, out, inp)) in
        all([(150, 96, 160), (300, 200, 416), (64, 1600, 208), (400, 208, 336), (5, 64, 1024)])
    {
        let gradients = |offset: usize, threads: usize| {
            let [x, w, dy] = [(rows * inp, 1), (out * inp, 2), (rows * out, 3)]
                .map(|(len, seed)| placed(&noise(len, seed), offset));
            let [x, w, dy] = [&x, &w, &dy].map(|(room, range)| &room[range.clone()]);
            let (mut dx, mut dw) = (noise(rows * inp, 4), noise(out * inp, 5));
            with_threads(threads, || {
                linear_backward_input(operands, dy, w, &mut dx, rows, inp, out, true);
                linear_backward_weight(operands, dy, x, &mut dw, None, rows, inp, out);
            });
            [dx, dw]
        };
        let expected = gradients(1, 1);
        for threads in [1, 3] {
            for (found, expected) in gradients(0, threads).iter().zip(&expected) {
                assert_same_bits(found, expected);
            }
        }
    }
}

#[test]
fn empty_shapes_are_no_work() {
    for operands in kinds_of_operands() {
        linear(operands, &[], &[1.0, 2.0], None, &mut [], 0, 2, 1);
        PackedLinear::new(operands, &[1.0, 2.0], None, 2, 1).forward(&[], &mut [], 0);
        let mut y = [7.0];
        linear(operands, &[], &[], Some(&[3.0]), &mut y, 1, 0, 1);
        assert_eq!(y, [3.0]);
        linear_backward_weight(operands, &[], &[], &mut [1.0, 2.0], None, 0, 2, 1);
    }
}
