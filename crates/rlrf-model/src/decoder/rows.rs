//! Rows of matrices, picked and put back.

/// Row `rows[i]` of `source` becomes row `i` of `out`.
pub(super) fn gather(source: &[f32], rows: impl Iterator<Item = usize>, dim: usize, out: &mut Vec<f32>) {
    out.clear();
    for row in rows {
        out.extend_from_slice(&source[row * dim..][..dim]);
    }
}

/// The opposite of [`gather`] in place: row `i` moves to row `rows[i]` of `count`, all others become zero. `rows` ascend.
pub(super) fn spread(values: &mut [f32], rows: &[usize], count: usize, dim: usize) {
    let mut left = rows.len();
    for row in (0..count).rev() {
        let place = row * dim..(row + 1) * dim;
        if left > 0 && rows[left - 1] == row {
            left -= 1;
            values.copy_within(left * dim..(left + 1) * dim, place.start);
        } else {
            values[place].fill(0.0);
        }
    }
}

/// Adds row `i` of `source` into row `rows[i]` of `out`, in order: the sums do not depend on threads.
pub(super) fn scatter_add(source: &[f32], rows: impl Iterator<Item = usize>, dim: usize, out: &mut [f32]) {
    for (source, row) in source.chunks_exact(dim).zip(rows) {
        for (out, value) in out[row * dim..][..dim].iter_mut().zip(source) {
            *out += value;
        }
    }
}

/// The first `len` values of a buffer that grows to the largest `len` seen.
pub(super) fn resized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(buffer.len().max(len), 0.0);
    &mut buffer[..len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gathered_is_spread_to_where_it_was() {
        let source: Vec<f32> = (1..11).map(|value| value as f32).collect();
        let mut gathered = Vec::new();
        for (rows, expected) in [
            (vec![1, 4], [0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 9.0, 10.0]),
            (vec![0, 1, 3], [1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 7.0, 8.0, 0.0, 0.0]),
            (vec![], [0.0; 10]),
        ] {
            gather(&source, rows.iter().copied(), 2, &mut gathered);
            assert_eq!(gathered.len(), rows.len() * 2);
            gathered.resize(10, f32::NAN);
            spread(&mut gathered, &rows, 5, 2);
            assert_eq!(gathered, expected);
        }
    }
}
