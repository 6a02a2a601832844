//! Norm, activation, rotation, softmax and optimizer against plain f64 references.

use crate::common::{assert_close, assert_same_bits, finite_differences, noise, wide, with_threads};
use rlrf_kernels::adamw::AdamW;
use rlrf_kernels::norm::{add_rms_norm, rms_norm, rms_norm_backward};
use rlrf_kernels::rope::RopeTable;
use rlrf_kernels::softmax::{logsumexp, softmax};
use rlrf_kernels::swiglu::{Values, swiglu, swiglu_backward};

const EPS: f32 = 1e-3;

fn norm_reference(x: &[f64], weight: &[f64]) -> Vec<f64> {
    let width = weight.len();
    let row = |x: &[f64]| {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / width as f64;
        let r = 1.0 / (mean + f64::from(EPS)).sqrt();
        x.iter().zip(weight).map(|(x, weight)| x * r * weight).collect::<Vec<_>>()
    };
    x.chunks(width).flat_map(row).collect()
}

fn weighted(y: &[f64], dy: &[f32]) -> f64 {
    y.iter().zip(dy).map(|(y, dy)| y * f64::from(*dy)).sum()
}

#[test]
fn norm_is_the_reference_and_its_gradients_finite_differences() {
    for (rows, width) in [(3, 5), (9, 64), (70, 37)] {
        let (x, weight, dy) = (noise(rows * width, 1), noise(width, 2), noise(rows * width, 3));
        let (mut y, mut inv_rms) = (vec![0.0; rows * width], vec![0.0; rows]);
        rms_norm(&x, &weight, EPS, &mut y, &mut inv_rms);
        assert_close(&y, &norm_reference(&wide(&x), &wide(&weight)), 1e-5);

        let delta = noise(rows * width, 4);
        let residual: Vec<f32> = x.iter().zip(&delta).map(|(x, delta)| x - delta).collect();
        let (mut sum, mut y_added) = (vec![f32::NAN; rows * width], vec![0.0; rows * width]);
        let mut inv_added = vec![0.0; rows];
        add_rms_norm(&residual, &delta, &weight, EPS, &mut sum, &mut y_added, &mut inv_added);
        assert_close(&y_added, &norm_reference(&wide(&sum), &wide(&weight)), 1e-5);
        assert_close(&sum, &wide(&x), 1e-5);

        let (mut dx, mut dweight) = (vec![1.0; rows * width], vec![2.0; width]);
        rms_norm_backward(&dy, &x, &weight, &inv_rms, None, &mut dx, Some(&mut dweight));
        if rows * width < 1000 {
            let (x, weight) = (wide(&x), wide(&weight));
            let expected = finite_differences(&x, |x| weighted(&norm_reference(x, &weight), &dy));
            assert_close(&dx, &expected.iter().map(|d| d + 1.0).collect::<Vec<_>>(), 1e-5);
            let expected = finite_differences(&weight, |weight| weighted(&norm_reference(&x, weight), &dy));
            assert_close(&dweight, &expected.iter().map(|d| d + 2.0).collect::<Vec<_>>(), 1e-5);
        }
        let mut frozen = vec![1.0; rows * width];
        rms_norm_backward(&dy, &x, &weight, &inv_rms, None, &mut frozen, None);
        assert_same_bits(&frozen, &dx);
        let single = with_threads(1, || {
            let mut dweight = vec![2.0; width];
            rms_norm_backward(
                &dy,
                &x,
                &weight,
                &inv_rms,
                None,
                &mut vec![0.0; rows * width],
                Some(&mut dweight),
            );
            dweight
        });
        assert_same_bits(&dweight, &single);

        // Of rows apart, as if the others were there and had no gradient.
        let places: Vec<usize> = (0..rows).filter(|row| row % 5 < 2 && row / 20 != 1).collect();
        let of_places = |values: &[f32]| -> Vec<f32> {
            places.iter().flat_map(|row| values[row * width..][..width].to_vec()).collect()
        };
        let mut dy_sparse = vec![0.0; rows * width];
        for row in &places {
            let channels = row * width..(row + 1) * width;
            dy_sparse[channels.clone()].copy_from_slice(&dy[channels]);
        }
        let (mut all, mut some) = (vec![2.0; width], vec![2.0; width]);
        let (mut dx_all, mut dx_some) = (vec![0.0; rows * width], vec![0.0; places.len() * width]);
        rms_norm_backward(&dy_sparse, &x, &weight, &inv_rms, None, &mut dx_all, Some(&mut all));
        let inv_rms: Vec<f32> = places.iter().map(|&row| inv_rms[row]).collect();
        let (dy, x) = (of_places(&dy), of_places(&x));
        rms_norm_backward(&dy, &x, &weight, &inv_rms, Some(&places), &mut dx_some, Some(&mut some));
        assert_same_bits(&some, &all);
        assert_same_bits(&dx_some, &of_places(&dx_all));
    }
}

#[test]
fn swiglu_is_the_reference_and_its_gradients_finite_differences() {
    let reference = |gate: &[f64], up: &[f64]| -> Vec<f64> {
        gate.iter().zip(up).map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up).collect()
    };
    let len = 301;
    let gate: Vec<f32> = noise(len, 1).iter().map(|x| x * 20.0).collect();
    let (up, dy) = (noise(len, 2), noise(len, 3));
    let mut y = vec![0.0; len];
    swiglu(&gate, &up, &mut y);
    let forward = y.clone();
    let (gate_wide, up_wide) = (wide(&gate), wide(&up));
    assert_close(&y, &reference(&gate_wide, &up_wide), 1e-6);
    let (mut dgate, mut dup) = (vec![0.0; len], vec![0.0; len]);
    y.fill(f32::NAN);
    swiglu_backward(&dy, Values::F32(&gate), Values::F32(&up), &mut y, &mut dgate, &mut dup);
    assert_same_bits(&y, &forward);
    assert_close(
        &dgate,
        &finite_differences(&gate_wide, |gate| weighted(&reference(gate, &up_wide), &dy)),
        1e-5,
    );
    assert_close(&dup, &finite_differences(&up_wide, |up| weighted(&reference(&gate_wide, up), &dy)), 1e-5);

    let mut y = [0.0; 3];
    swiglu(&[1e4, -1e4, f32::NAN], &[2.0; 3], &mut y);
    assert!(y[0] == 2e4 && y[1] == 0.0 && y[2].is_nan());
    let (mut dgate, mut dup) = ([0.0; 2], [0.0; 2]);
    let (gate, up) = (Values::F32(&[1e4, -1e4]), Values::F32(&[2.0; 2]));
    swiglu_backward(&[1.0; 2], gate, up, &mut [0.0; 2], &mut dgate, &mut dup);
    assert_eq!((dgate, dup), ([2.0, 0.0], [1e4, 0.0]));
}

#[test]
fn rotation_is_the_reference_and_back_again() {
    let (half, heads) = (10, 3);
    let inverse_frequencies: Vec<f32> = (0..half).map(|i| 10000f32.powf(-(i as f32) / half as f32)).collect();
    let table = RopeTable::new(&inverse_frequencies, 500, 1.5);
    assert_eq!(table.positions(), 500);
    let positions: Vec<u32> = (0..90).map(|i| i * 37 % 500).collect();
    let x = noise(positions.len() * heads * 2 * half, 1);
    let mut y = x.clone();
    table.rotate(&mut y, &positions, heads);
    let mut expected = wide(&x);
    for (row, &position) in positions.iter().enumerate() {
        for head in expected[row * heads * 2 * half..(row + 1) * heads * 2 * half].chunks_exact_mut(2 * half)
        {
            for i in 0..half {
                let (sin, cos) = (f64::from(position) * f64::from(inverse_frequencies[i])).sin_cos();
                let (a, b) = (head[i], head[i + half]);
                head[i] = 1.5 * (a * cos - b * sin);
                head[i + half] = 1.5 * (b * cos + a * sin);
            }
        }
    }
    // The angle is rounded to f32: 500 radians are exact to 3e-5.
    assert_close(&y, &expected, 5e-5);
    table.rotate_back(&mut y, &positions, heads);
    assert_close(&y, &x.iter().map(|x| 2.25 * f64::from(*x)).collect::<Vec<_>>(), 1e-6);
}

#[test]
fn softmax_and_logsumexp() {
    for len in [1, 2, 15, 16, 17, 300] {
        let x: Vec<f32> = noise(len, 5).iter().map(|x| x * 40.0).collect();
        let sum: f64 = wide(&x).iter().map(|x| x.exp()).sum();
        assert_close(&[logsumexp(&x)], &[sum.ln()], 1e-6);
        let mut y = x.clone();
        softmax(&mut y);
        assert_close(&y, &wide(&x).iter().map(|x| x.exp() / sum).collect::<Vec<_>>(), 1e-6);
        for (y, x) in y.iter().zip(&x) {
            let expected = f64::from(*x).exp() / sum;
            assert!((f64::from(*y) - expected).abs() <= 1e-5 * expected, "{y} is not {expected}");
        }
    }
}

#[test]
fn softmax_extremes() {
    let low = f32::NEG_INFINITY;
    let mut x = [low, 1e30, low, 1e30, -1e30];
    assert_eq!(logsumexp(&x), 1e30);
    softmax(&mut x);
    assert_eq!(x, [0.0, 0.5, 0.0, 0.5, 0.0]);
    assert_eq!(logsumexp(&[low; 20]), low);
    assert_eq!(logsumexp(&[]), low);
    assert!(logsumexp(&[f32::NAN, low]).is_nan());
    let mut x = [low; 3];
    softmax(&mut x);
    assert!(x.iter().all(|x| x.is_nan()));
}

/// The update of torch.optim.AdamW (single tensor), in f64.
#[test]
fn adamw_is_the_reference() {
    let len = 77;
    let mut parameters = noise(len, 1);
    let (mut m, mut v) = (vec![0.0; len], vec![0.0; len]);
    let mut expected = wide(&parameters);
    let (mut m_wide, mut v_wide) = (vec![0f64; len], vec![0f64; len]);
    for step in 1..=20 {
        let adamw = AdamW {
            learning_rate: 3e-2,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.1,
            step,
            gradient_scale: 0.25,
        };
        let gradients = noise(len, 100 + step);
        let mut taken = gradients.clone();
        adamw.update(&mut parameters, &mut taken, &mut m, &mut v);
        assert!(taken.iter().all(|&gradient| gradient == 0.0));
        let [learning_rate, beta1, beta2] = [adamw.learning_rate, adamw.beta1, adamw.beta2].map(f64::from);
        for i in 0..len {
            let gradient = f64::from(gradients[i]) * 0.25;
            expected[i] *= 1.0 - learning_rate * f64::from(adamw.weight_decay);
            m_wide[i] += (gradient - m_wide[i]) * (1.0 - beta1);
            v_wide[i] = v_wide[i] * beta2 + gradient * gradient * (1.0 - beta2);
            let root = v_wide[i].sqrt() / (1.0 - beta2.powi(step as i32)).sqrt() + 1e-8;
            expected[i] -= learning_rate / (1.0 - beta1.powi(step as i32)) * m_wide[i] / root;
        }
    }
    assert_close(&parameters, &expected, 1e-5);
    assert_close(&m, &m_wide, 1e-5);
    assert_close(&v, &v_wide, 1e-5);
}
