//! Speed of the other operations.

use std::hint::black_box;

use rlrf_kernels::adamw::AdamW;
use rlrf_kernels::attention::{self, BLOCK, DecodeScratch, Heads, KeyValues, Span};
use rlrf_kernels::matmul::Operands;
use rlrf_kernels::rope::RopeTable;
use rlrf_kernels::swiglu::{Values, swiglu, swiglu_backward};
use rlrf_kernels::{logprobs, norm};

use crate::{best, noise};

/// Prints a JSON line per operation and shape.
pub(crate) fn measure() {
    // Inside the pool, as a training step would be.
    rayon::scope(|_| {
        for (query, key_value, dim) in [(9, 3, 64), (4, 4, 32), (8, 2, 128)] {
            let heads = Heads { query, key_value, dim, window: None };
            sequences(heads, 32, 80);
            sequences(heads, 8, 256);
            sequences(heads, 2, 1024);
            tree(heads, 128, 15, 64);
            for keys in [100, 1000] {
                for operands in [Operands::F32, Operands::Bf16] {
                    decode(operands, heads, 1, keys);
                    decode(operands, heads, 8, keys);
                }
            }
        }
        for (rows, dim, vocab) in [(512, 576, 49_152), (2048, 256, 1024), (2048, 128, 4096), (64, 256, 1024)]
        {
            language_head(Operands::F32, rows, dim, vocab);
            language_head(Operands::Bf16, rows, dim, vocab);
        }
        for (rows, dim) in [(1024, 576), (2048, 256)] {
            elementwise(rows, dim);
        }
    });
}

fn sequences(heads: Heads, count: usize, len: usize) {
    let spans: Vec<Span> = (0..count).map(|i| Span { rows: i * len..(i + 1) * len, prefix: 0..0 }).collect();
    attend(&format!("{count} sequences of {len}"), heads, &spans, count * len * (len + 1) / 2);
}

fn tree(heads: Heads, root: usize, branches: usize, len: usize) {
    let mut spans = vec![Span { rows: 0..root, prefix: 0..0 }];
    spans.extend((0..branches).map(|i| Span { rows: root + i * len..root + (i + 1) * len, prefix: 0..root }));
    let pairs = root * (root + 1) / 2 + branches * (len * root + len * (len + 1) / 2);
    attend(&format!("{root} with {branches} branches of {len}"), heads, &spans, pairs);
}

fn attend(on: &str, heads: Heads, spans: &[Span], pairs: usize) {
    let rows = spans.last().map_or(0, |span| span.rows.end);
    let Heads { query, key_value, dim, .. } = heads;
    let (q, k, v) = (noise(rows * query * dim), noise(rows * key_value * dim), noise(rows * key_value * dim));
    let dout = noise(rows * query * dim);
    let positions = vec![0; rows];
    let (mut out, mut logsumexp) = (vec![0.0; q.len()], vec![0.0; rows * query]);
    let shape = format!("{query}/{key_value} heads of {dim}, {on}");
    // Useful work: what lies beyond the diagonal does not count.
    let gflop = (4 * pairs * query * dim) as f64 / 1e9;
    let seconds = best(|| {
        attention::forward(
            Operands::F32,
            black_box(&q),
            &k,
            &v,
            &positions,
            spans,
            None,
            heads,
            &mut out,
            &mut logsumexp,
        );
    });
    report("attention forward", &shape, seconds, gflop);
    let (mut dq, mut dk, mut dv) = (q.clone(), k.clone(), v.clone());
    let seconds = best(|| {
        attention::backward(
            Operands::F32,
            black_box(&q),
            &k,
            &v,
            &out,
            &logsumexp,
            &dout,
            &positions,
            spans,
            None,
            heads,
            &mut dq,
            &mut dk,
            &mut dv,
        );
    });
    report("attention backward", &shape, seconds, gflop * 2.5);
}

fn decode(operands: Operands, heads: Heads, rows: usize, keys: usize) {
    let Heads { query, key_value, dim, .. } = heads;
    let (q, k, v) = (noise(rows * query * dim), noise(keys * key_value * dim), noise(keys * key_value * dim));
    let (mut out, mut scratch) = (vec![0.0; q.len()], DecodeScratch::default());
    let (blocks, group) = (keys.div_ceil(BLOCK), query / key_value * dim);
    let chain: Vec<usize> = (0..blocks).collect();
    let of_heads = k.chunks(keys * dim).zip(v.chunks(keys * dim));
    let cached: Vec<_> = of_heads
        .map(|(k, v)| {
            let mut cached = KeyValues::new(operands, dim, blocks);
            cached.grow(blocks);
            let rows = (0..keys).zip(k.chunks(dim).zip(v.chunks(dim)));
            cached.store(rows.map(|(key, (k, v))| (key / BLOCK, key % BLOCK, k, v)));
            cached
        })
        .collect();
    let seconds = best(|| {
        for (head, cached) in cached.iter().enumerate() {
            let outs = out.chunks_exact_mut(group).skip(head).step_by(key_value);
            let of_row = q.chunks_exact(group).skip(head).step_by(key_value).zip(outs);
            let mut queries: Vec<_> =
                of_row.map(|(q, out)| attention::Query { q, chain: &chain, keys: 0..keys, out }).collect();
            attention::decode(cached, black_box(&mut queries), keys / BLOCK, &mut scratch);
        }
    });
    let gflop = (4 * rows * keys * query * dim) as f64 / 1e9;
    let shape = format!("{operands:?}, {query}/{key_value} heads of {dim}, {rows} rows, {keys} shared keys");
    report("attention decode", &shape, seconds, gflop);
}

fn language_head(operands: Operands, rows: usize, dim: usize, vocab: usize) {
    let (hidden, head, d_logprobs) = (noise(rows * dim), noise(vocab * dim), noise(rows));
    let targets: Vec<u32> = (0..rows).map(|row| (row * 7919 % vocab) as u32).collect();
    let (mut logprobs, mut logsumexp) = (vec![0.0; rows], vec![0.0; rows]);
    let shape = format!("{operands:?}, {rows} rows of {dim}, {vocab} tokens");
    let gflop = (2 * rows * dim * vocab) as f64 / 1e9;
    let seconds = best(|| {
        logprobs::forward(
            operands,
            black_box(&hidden),
            &head,
            &targets,
            dim,
            vocab,
            &mut logprobs,
            &mut logsumexp,
        );
    });
    report("logprobs forward", &shape, seconds, gflop);
    let (mut d_hidden, mut d_head) = (vec![0.0; rows * dim], vec![0.0; vocab * dim]);
    let seconds = best(|| {
        logprobs::backward(
            operands,
            black_box(&hidden),
            &head,
            &targets,
            &logsumexp,
            &d_logprobs,
            dim,
            vocab,
            &mut d_hidden,
            Some(&mut d_head),
        );
    });
    report("logprobs backward", &shape, seconds, 3.0 * gflop);
}

fn elementwise(rows: usize, dim: usize) {
    let len = rows * dim;
    let (x, dy, weight) = (noise(len), noise(len), noise(dim));
    let (mut y, mut z, mut inv_rms) = (vec![0.0; len], vec![0.0; len], vec![1.0; rows]);
    let mut dweight = vec![0.0; dim];
    let shape = format!("{rows} rows of {dim}");
    // Elements in place of operations: these are bound by memory.
    let gigaelements = len as f64 / 1e9;
    let mut time = |operation: &str, run: &mut dyn FnMut(&mut [f32], &mut [f32])| {
        let seconds = best(|| run(&mut y, &mut z));
        report(operation, &shape, seconds, gigaelements);
    };
    time("rms_norm (elements)", &mut |y, _| norm::rms_norm(&x, &weight, 1e-5, y, &mut inv_rms));
    time("add_rms_norm (elements)", &mut |y, z| {
        norm::add_rms_norm(&x, &dy, &weight, 1e-5, z, y, &mut inv_rms);
    });
    let inv_rms = vec![1.0; rows];
    time("rms_norm_backward (elements)", &mut |y, _| {
        norm::rms_norm_backward(&dy, &x, &weight, &inv_rms, None, y, Some(&mut dweight));
    });
    time("swiglu (elements)", &mut |y, _| swiglu(&x, &dy, y));
    let (gate, up, mut dup) = (Values::F32(&x), Values::F32(&dy), vec![0.0; len]);
    time("swiglu_backward (elements)", &mut |y, z| swiglu_backward(&dy, gate, up, y, z, &mut dup));
    let table = RopeTable::new(&noise(32), rows, 1.0);
    let positions: Vec<u32> = (0..rows as u32).collect();
    time("rope (elements)", &mut |y, _| table.rotate(y, &positions, dim / 64));
    let adamw = AdamW {
        learning_rate: 1e-4,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.1,
        step: 1,
        gradient_scale: 1.0,
    };
    let (mut gradients, mut m) = (noise(len), noise(len));
    time("adamw (elements)", &mut |y, z| {
        z.fill(1.0);
        adamw.update(y, &mut gradients, &mut m, z);
    });
}

fn report(operation: &str, shape: &str, seconds: f64, giga: f64) {
    println!(
        "{{\"operation\":\"{operation}\",\"shape\":\"{shape}\",\"threads\":{},\"microseconds\":{:.1},\
         \"giga_per_second\":{:.1}}}",
        rayon::current_num_threads(),
        seconds * 1e6,
        giga / seconds
    );
}
