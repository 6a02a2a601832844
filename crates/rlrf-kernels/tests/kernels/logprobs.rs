//! Log-probabilities against a plain f64 reference and its finite differences.

use crate::common::{
    assert_close, assert_same_bits, finite_differences, kinds_of_operands, noise, wide, with_threads,
};
use rlrf_kernels::logprobs::{backward, backward_kept, forward, forward_backward, forward_keeping};
use rlrf_kernels::matmul::Operands::{self, Bf16, F32, F32InTiles};

fn reference(hidden: &[f64], head: &[f64], targets: &[u32], dim: usize) -> Vec<f64> {
    let product = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let row = |(hidden, &target): (&[f64], &u32)| {
        let logits: Vec<f64> = head.chunks(dim).map(|head| product(hidden, head)).collect();
        logits[target as usize] - logits.iter().map(|logit| logit.exp()).sum::<f64>().ln()
    };
    hidden.chunks(dim).zip(targets).map(row).collect()
}

/// Half a unit in the last place of bf16, twice, for the two operands.
const BF16: f64 = 1.0 / 128.0;

fn targets(rows: usize, vocab: usize) -> Vec<u32> {
    (0..rows).map(|row| ((row * 7919 + vocab - 1) % vocab) as u32).collect()
}

#[test]
fn forward_is_the_reference() {
    for (rows, dim, vocab) in [(1, 3, 1), (5, 20, 37), (130, 64, 1000), (3, 32, 7000)] {
        let (hidden, head) = (noise(rows * dim, 1), noise(vocab * dim, 2));
        let targets = targets(rows, vocab);
        let (mut logprobs, mut logsumexp) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
        let expected = reference(&wide(&hidden), &wide(&head), &targets, dim);
        for operands in kinds_of_operands() {
            forward(operands, &hidden, &head, &targets, dim, vocab, &mut logprobs, &mut logsumexp);
            assert_close(&logprobs, &expected, if operands == Bf16 { BF16 } else { 1e-5 });
        }
    }
}

#[test]
fn gradients_are_finite_differences() {
    for operands in kinds_of_operands() {
        gradients(operands, if operands == Bf16 { 2.0 * BF16 } else { 1e-5 });
    }
}

fn gradients(operands: Operands, tolerance: f64) {
    let (rows, dim, vocab) = (7, 9, 45);
    let (hidden, head) = (noise(rows * dim, 1), noise(vocab * dim, 2));
    let targets = targets(rows, vocab);
    let mut d_logprobs = noise(rows, 3);
    d_logprobs[2] = 0.0;
    let (mut logprobs, mut logsumexp) = (vec![0.0; rows], vec![0.0; rows]);
    forward(operands, &hidden, &head, &targets, dim, vocab, &mut logprobs, &mut logsumexp);
    let mut d_hidden = vec![f32::NAN; rows * dim];
    let start = noise(vocab * dim, 4);
    let mut d_head = start.clone();
    backward(
        operands,
        &hidden,
        &head,
        &targets,
        &logsumexp,
        &d_logprobs,
        dim,
        vocab,
        &mut d_hidden,
        Some(&mut d_head),
    );
    let loss = |hidden: &[f64], head: &[f64]| {
        let logprobs = reference(hidden, head, &targets, dim);
        logprobs.iter().zip(&d_logprobs).map(|(logprob, d)| logprob * f64::from(*d)).sum::<f64>()
    };
    let (hidden_wide, head_wide) = (wide(&hidden), wide(&head));
    assert_close(&d_hidden, &finite_differences(&hidden_wide, |x| loss(x, &head_wide)), tolerance);
    let mut expected = finite_differences(&head_wide, |x| loss(&hidden_wide, x));
    expected.iter_mut().zip(&start).for_each(|(expected, start)| *expected += f64::from(*start));
    assert_close(&d_head, &expected, tolerance);

    let mut frozen = vec![f32::NAN; rows * dim];
    backward(operands, &hidden, &head, &targets, &logsumexp, &d_logprobs, dim, vocab, &mut frozen, None);
    assert_same_bits(&frozen, &d_hidden);
}

#[test]
fn neither_threads_nor_other_rows_change_a_row() {
    kinds_of_operands().into_iter().for_each(invariance);
}

fn invariance(operands: Operands) {
    let (rows, dim, vocab) = (150, 40, 900);
    let (hidden, head, d_logprobs) = (noise(rows * dim, 1), noise(vocab * dim, 2), noise(rows, 3));
    let targets = targets(rows, vocab);
    let run = |first: usize, end: usize| {
        let rows = end - first;
        let (hidden, targets) = (&hidden[first * dim..end * dim], &targets[first..end]);
        let (mut logprobs, mut logsumexp) = (vec![0.0; rows], vec![0.0; rows]);
        forward(operands, hidden, &head, targets, dim, vocab, &mut logprobs, &mut logsumexp);
        let mut d_hidden = vec![0.0; rows * dim];
        let mut d_head = vec![0.0; vocab * dim];
        let d_logprobs = &d_logprobs[first..end];
        backward(
            operands,
            hidden,
            &head,
            targets,
            &logsumexp,
            d_logprobs,
            dim,
            vocab,
            &mut d_hidden,
            Some(&mut d_head),
        );
        (logprobs, d_hidden, d_head)
    };
    let (logprobs, d_hidden, d_head) = with_threads(1, || run(0, rows));
    let parallel = with_threads(2, || run(0, rows));
    assert_same_bits(&parallel.0, &logprobs);
    assert_same_bits(&parallel.1, &d_hidden);
    assert_same_bits(&parallel.2, &d_head);
    let part = run(140, 143);
    assert_same_bits(&part.0, &logprobs[140..143]);
    assert_same_bits(&part.1, &d_hidden[140 * dim..143 * dim]);
}

#[test]
fn both_in_one_are_one_after_the_other() {
    // The last one takes more than one chunk of rows.
    for (rows, dim, vocab) in [(0, 4, 9), (1, 3, 1), (7, 9, 45), (130, 64, 1000), (40, 5, 900_000)] {
        for operands in kinds_of_operands() {
            let (hidden, head, d_logprobs) = (noise(rows * dim, 1), noise(vocab * dim, 2), noise(rows, 3));
            let (targets, start) = (targets(rows, vocab), noise(vocab * dim, 4));
            let (mut logprobs, mut logsumexp) = (vec![f32::NAN; rows], vec![f32::NAN; rows]);
            forward(operands, &hidden, &head, &targets, dim, vocab, &mut logprobs, &mut logsumexp);
            let (mut d_hidden, mut d_head) = (vec![f32::NAN; rows * dim], start.clone());
            let gradients = (&mut d_hidden[..], Some(&mut d_head[..]));
            backward(
                operands,
                &hidden,
                &head,
                &targets,
                &logsumexp,
                &d_logprobs,
                dim,
                vocab,
                gradients.0,
                gradients.1,
            );
            let (mut found, mut d_found, mut d_head_found) =
                (vec![f32::NAN; rows], vec![f32::NAN; rows * dim], start.clone());
            let gradients = (&mut d_found[..], Some(&mut d_head_found[..]));
            forward_backward(
                operands,
                &hidden,
                &head,
                &targets,
                &d_logprobs,
                dim,
                vocab,
                &mut found,
                gradients.0,
                gradients.1,
            );
            assert_same_bits(&found, &logprobs);
            assert_same_bits(&d_found, &d_hidden);
            assert_same_bits(&d_head_found, &d_head);

            let (mut found, mut logsumexp_found, mut logits) =
                (vec![f32::NAN; rows], vec![f32::NAN; rows], Vec::new());
            forward_keeping(
                operands,
                &hidden,
                &head,
                &targets,
                dim,
                vocab,
                &mut found,
                &mut logsumexp_found,
                &mut logits,
            );
            let (mut d_found, mut d_head_found) = (vec![f32::NAN; rows * dim], start);
            backward_kept(
                operands,
                &hidden,
                &head,
                &targets,
                &logsumexp_found,
                &d_logprobs,
                dim,
                vocab,
                &mut logits,
                &mut d_found,
                Some(&mut d_head_found),
            );
            assert_same_bits(&found, &logprobs);
            assert_same_bits(&logsumexp_found, &logsumexp);
            assert_same_bits(&d_found, &d_hidden);
            // In f32 in tiles, rows of a chunk share a scale.
            match operands {
                F32InTiles if vocab == 900_000 => assert_close(&d_head_found, &wide(&d_head), 1e-6),
                _ => assert_same_bits(&d_head_found, &d_head),
            }
        }
    }
}

#[test]
fn extreme_logits() {
    let head = [1e30, -1e30, 0.0];
    let (mut logprobs, mut logsumexp) = ([0.0; 3], [0.0; 3]);
    forward(F32, &[1.0; 3], &head, &[0, 1, 2], 1, 3, &mut logprobs, &mut logsumexp);
    assert_eq!(logprobs, [0.0, -2e30, -1e30]);
    forward(F32, &[f32::NAN, 1.0, 1.0], &head, &[0, 1, 2], 1, 3, &mut logprobs, &mut logsumexp);
    assert!(logprobs[0].is_nan() && logprobs[1] == -2e30);
}
