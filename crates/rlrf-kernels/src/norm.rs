//! Root-mean-square normalisation (Zhang and Sennrich, 2019), with the residual add of a decoder block.

use std::ops::Range;

use rayon::prelude::*;

use crate::rows::{Chunk, RowsMut, with_scratch};
use crate::{parallel, simd};

/// Rows per parallel task; fixed, because the weight gradient is summed per task.
const ROWS: usize = 32;

/// `y = x * r * weight` with `r = 1/sqrt(mean(x^2) + eps)` per row of length `weight.len()`; keeps `r` per row.
pub fn rms_norm<'y>(x: &[f32], weight: &[f32], eps: f32, y: impl Into<RowsMut<'y>>, inv_rms: &mut [f32]) {
    let (y, width) = (y.into(), weight.len());
    assert!(y.is(inv_rms.len(), width) && x.len() == inv_rms.len() * width);
    x.par_chunks(ROWS * width)
        .zip(y.chunks(ROWS, width))
        .zip(inv_rms.par_chunks_mut(ROWS))
        .with_min_len(parallel::chunks(ROWS * width))
        .for_each(|((x, y), inv_rms)| norm_chunk(x, weight, eps, y, inv_rms));
}

/// `sum = residual + delta`, then [`rms_norm`] of it.
pub fn add_rms_norm<'y>(
    residual: &[f32],
    delta: &[f32],
    weight: &[f32],
    eps: f32,
    sum: &mut [f32],
    y: impl Into<RowsMut<'y>>,
    inv_rms: &mut [f32],
) {
    let (y, width) = (y.into(), weight.len());
    assert!(sum.len() == residual.len() && sum.len() == delta.len());
    assert!(y.is(inv_rms.len(), width) && sum.len() == inv_rms.len() * width);
    residual
        .par_chunks(ROWS * width)
        .zip(delta.par_chunks(ROWS * width))
        .zip(sum.par_chunks_mut(ROWS * width))
        .zip(y.chunks(ROWS, width))
        .zip(inv_rms.par_chunks_mut(ROWS))
        .with_min_len(parallel::chunks(ROWS * width))
        .for_each(|((((residual, delta), sum), y), inv_rms)| {
            sum_rows(residual, delta, sum);
            norm_chunk(sum, weight, eps, y, inv_rms);
        });
}

/// Adds the input gradient into `dx` and the weight gradient into `dweight` (None: frozen).
///
/// Where the rows are only those at these `places` of a batch, ascending, the weight gradient is to the bit that of the whole batch
/// whose other rows have none.
pub fn rms_norm_backward(
    dy: &[f32],
    x: &[f32],
    weight: &[f32],
    inv_rms: &[f32],
    places: Option<&[usize]>,
    dx: &mut [f32],
    dweight: Option<&mut [f32]>,
) {
    let width = weight.len();
    assert!(dy.len() == x.len() && dy.len() == dx.len() && dy.len() == inv_rms.len() * width);
    let tasks = summed_together(inv_rms.len(), places);
    let mut partials = vec![0f32; if dweight.is_some() { tasks.len() * width } else { 0 }];
    let mut rest = dx;
    let rows: Vec<_> = tasks
        .into_iter()
        .map(|rows| {
            let dx = rest.split_off_mut(..rows.len() * width).unwrap_or_default();
            let values = rows.start * width..rows.end * width;
            (&dy[values.clone()], &x[values], &inv_rms[rows], dx)
        })
        .collect();
    let rows = rows.into_par_iter();
    let Some(dweight) = dweight else {
        return rows.for_each(|(dy, x, inv_rms, dx)| backward_rows(dy, x, weight, inv_rms, dx, &mut []));
    };
    rows.zip(partials.par_chunks_mut(width)).for_each(|((dy, x, inv_rms, dx), partial)| {
        backward_rows(dy, x, weight, inv_rms, dx, partial);
    });
    assert_eq!(dweight.len(), width);
    for partial in partials.chunks_exact(width) {
        simd::add(dweight, partial);
    }
}

/// Cuts rows into those whose weight gradients are summed first: which they are depends on their places in the batch alone.
fn summed_together(rows: usize, places: Option<&[usize]>) -> Vec<Range<usize>> {
    let Some(places) = places else {
        return (0..rows).step_by(ROWS).map(|first| first..(first + ROWS).min(rows)).collect();
    };
    assert_eq!(places.len(), rows);
    let mut end = 0;
    let of_groups = places.chunk_by(|one, next| one / ROWS == next / ROWS);
    of_groups
        .map(|group| {
            let start = end;
            end += group.len();
            start..end
        })
        .collect()
}

simd! {
    fn sum_rows(x: &[f32], delta: &[f32], sum: &mut [f32]) {
        for ((sum, x), delta) in sum.iter_mut().zip(x).zip(delta) {
            *sum = x + delta;
        }
    }
}

/// The rows of one task.
fn norm_chunk(x: &[f32], weight: &[f32], eps: f32, mut y: Chunk<'_>, inv_rms: &mut [f32]) {
    if let Some(y) = y.f32() {
        return norm_rows(x, weight, eps, y, inv_rms);
    }
    let width = weight.len();
    with_scratch(width, |normed| {
        for (row, (x, inv_rms)) in x.chunks_exact(width).zip(inv_rms.chunks_mut(1)).enumerate() {
            norm_rows(x, weight, eps, normed, inv_rms);
            y.round(row, normed);
        }
    });
}

simd! {
    fn norm_rows(x: &[f32], weight: &[f32], eps: f32, y: &mut [f32], inv_rms: &mut [f32]) {
        let width = weight.len();
        for ((x, y), inv_rms) in x.chunks_exact(width).zip(y.chunks_exact_mut(width)).zip(inv_rms) {
            let r = 1.0 / (simd::dot(x, x) / width as f32 + eps).sqrt();
            *inv_rms = r;
            for ((y, x), weight) in y.iter_mut().zip(x).zip(weight) {
                *y = x * r * weight;
            }
        }
    }
}

simd! {
    /// `dweight` of these rows is added into `dweight` unless that is empty.
    fn backward_rows(dy: &[f32], x: &[f32], weight: &[f32], inv_rms: &[f32], dx: &mut [f32], dweight: &mut [f32]) {
        let width = weight.len();
        for (((dy, x), &r), dx) in
            dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(inv_rms).zip(dx.chunks_exact_mut(width))
        {
            let mut lanes = [0f32; simd::LANES];
            let (dy_groups, dy_rest) = dy.as_chunks::<{ simd::LANES }>();
            let (x_groups, x_rest) = x.as_chunks::<{ simd::LANES }>();
            let (weight_groups, weight_rest) = weight.as_chunks::<{ simd::LANES }>();
            for ((dy, x), weight) in dy_groups.iter().zip(x_groups).zip(weight_groups) {
                for i in 0..simd::LANES {
                    lanes[i] = (dy[i] * weight[i]).mul_add(x[i], lanes[i]);
                }
            }
            for (((lane, dy), x), weight) in lanes.iter_mut().zip(dy_rest).zip(x_rest).zip(weight_rest) {
                *lane = (dy * weight).mul_add(*x, *lane);
            }
            let along = simd::sum_lanes(lanes) * r * r * r / width as f32;
            for (((dx, dy), x), weight) in dx.iter_mut().zip(dy).zip(x).zip(weight) {
                *dx += (dy * weight).mul_add(r, -(x * along));
            }
            for ((dweight, dy), x) in dweight.iter_mut().zip(dy).zip(x) {
                *dweight = (dy * r).mul_add(*x, *dweight);
            }
        }
    }
}
