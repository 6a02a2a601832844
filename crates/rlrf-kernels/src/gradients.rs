//! Flat vectors of gradients: their norm, and sums of two.

use rayon::prelude::*;

use crate::simd::{LANES, add};

/// Elements per parallel task.
const CHUNK: usize = 1 << 14;

/// 2-norm, summed in `f64` in an order that does not depend on the number of threads.
pub fn norm(gradients: &[f32]) -> f64 {
    let partial_sums: Vec<f64> = gradients.par_chunks(CHUNK).map(sum_of_squares).collect();
    partial_sums.iter().sum::<f64>().sqrt()
}

/// `sums += gradients`; `gradients` become zero, for others to be added to: while they are in the cache this costs least.
///
/// # Panics
/// If the lengths differ.
pub fn add_and_clear(sums: &mut [f32], gradients: &mut [f32]) {
    assert_eq!(sums.len(), gradients.len());
    let chunks = sums.par_chunks_mut(CHUNK).zip(gradients.par_chunks_mut(CHUNK));
    chunks.for_each(|(sums, gradients)| {
        add(sums, gradients);
        gradients.fill(0.0);
    });
}

simd! {
    fn sum_of_squares(values: &[f32]) -> f64 {
        let (groups, rest) = values.as_chunks::<LANES>();
        let mut sums = [0f64; LANES];
        for group in groups {
            for (sum, &value) in sums.iter_mut().zip(group) {
                *sum = f64::from(value).mul_add(f64::from(value), *sum);
            }
        }
        for (sum, &value) in sums.iter_mut().zip(rest) {
            *sum = f64::from(value).mul_add(f64::from(value), *sum);
        }
        sums.iter().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_is_exact_and_carries_nan() {
        assert_eq!(norm(&vec![2.0; 1 << 16]), 512.0);
        assert_eq!(norm(&[3.0, 4.0]), 5.0);
        assert!(norm(&[1.0, f32::NAN]).is_nan());
    }

    #[test]
    fn sums_are_of_each_element_and_what_was_added_is_zero() {
        let mut sums: Vec<f32> = (0..CHUNK + 5).map(|i| i as f32).collect();
        let mut gradients: Vec<f32> = sums.iter().map(|x| x / 4.0).collect();
        add_and_clear(&mut sums, &mut gradients);
        assert!(sums.iter().enumerate().all(|(i, sum)| *sum == i as f32 * 1.25));
        assert!(gradients.iter().all(|gradient| *gradient == 0.0));
    }
}
