//! Cached keys and values of one head, in blocks, in the words and the order in which products read them.

use crate::bf16::{pair_row, round};
use crate::matmul::{Columns, Operands};
use crate::simd::{self, LANES, Line};

/// Keys of one block.
pub const BLOCK: usize = LANES;

/// How many rows before its turn the place of a row is fetched.
const AHEAD: usize = 4;

/// Keys and values of one key/value head, `BLOCK` neighbouring ones to a block, in f32 or rounded to bf16.
///
/// The keys of a block lie channel by channel, `[steps of channels, BLOCK]`, the values key by key, `[steps of keys, channels]`, so that
/// both scores and weighted sums are products with what lies side by side in the columns.
#[derive(Debug, Clone)]
pub struct KeyValues {
    operands: Operands,
    dim: usize,
    /// Most blocks.
    limit: usize,
    /// Each of twice as many blocks as the one before, but for the last: to grow copies nothing.
    segments: Vec<Segment>,
    /// A rounded key on its way.
    words: Vec<f32>,
}

/// Neighbouring blocks.
#[derive(Debug, Clone)]
struct Segment {
    keys: Box<[Line]>,
    values: Box<[Line]>,
}

/// Blocks of the first segment.
const FIRST: usize = 4;

/// The segment that holds a block, and the block's place in it.
fn place_of(block: usize) -> (usize, usize) {
    let segment = (block / FIRST + 1).ilog2() as usize;
    (segment, block - blocks_before(segment))
}

fn blocks_before(segment: usize) -> usize {
    FIRST * ((1 << segment) - 1)
}

impl KeyValues {
    /// No blocks yet, of `limit` at most, of heads with `dim` channels.
    ///
    /// # Panics
    /// If the operands are others than f32 or bf16.
    pub fn new(operands: Operands, dim: usize, limit: usize) -> Self {
        assert!(matches!(operands, Operands::F32 | Operands::Bf16), "keys are held in f32 or bf16");
        Self { operands, dim, limit, segments: Vec::new(), words: vec![0.0; dim.div_ceil(2)] }
    }

    /// How keys and values are held.
    pub fn operands(&self) -> Operands {
        self.operands
    }

    /// Number of channels.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Makes room for so many blocks at least; new ones are zero. Memory that is known to be zero is not touched.
    ///
    /// # Panics
    /// If these are more than the limit.
    pub fn grow(&mut self, blocks: usize) {
        assert!(blocks <= self.limit, "a cache of {} blocks has no room for {blocks}", self.limit);
        while blocks_before(self.segments.len()) < blocks {
            let segment = self.segments.len();
            let count = (FIRST << segment).min(self.limit - blocks_before(segment));
            let [keys, values] = [self.key_block(), self.value_block()].map(|lines| zeros(count * lines));
            self.segments.push(Segment { keys, values });
        }
    }

    /// Copies one block over another.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn copy_block(&mut self, from: usize, to: usize) {
        let (keys, values) = (self.keys(from).data.to_vec(), self.values(from).data.to_vec());
        let (to_keys, to_values) = self.block_mut(to);
        to_keys.copy_from_slice(&keys);
        to_values.copy_from_slice(&values);
    }

    /// Writes keys and values, `[dim]` each: `(block, place in it, key, value)`.
    ///
    /// # Panics
    /// If there is no such place, or a length is wrong.
    pub fn store<'a>(&mut self, rows: impl Iterator<Item = (usize, usize, &'a [f32], &'a [f32])> + Clone) {
        let ahead = rows.clone().map(Some).skip(AHEAD).chain(std::iter::repeat(None));
        for ((block, place, k, v), ahead) in rows.zip(ahead) {
            if let Some((block, place, ..)) = ahead {
                simd::prefetch(self.keys(block).data);
                let lines = self.value_lines();
                simd::prefetch(&self.values(block).data[place / self.keys_per_step() * lines..][..lines]);
            }
            self.store_one(block, place, k, v);
        }
    }

    fn store_one(&mut self, block: usize, place: usize, k: &[f32], v: &[f32]) {
        assert!(k.len() == self.dim && v.len() == self.dim && place < BLOCK);
        let (operands, lines) = (self.operands, self.value_lines());
        let step = place / self.keys_per_step();
        let mut words = std::mem::take(&mut self.words);
        let (keys, values) = self.block_mut(block);
        let values = values[step * lines..][..lines].iter_mut().flat_map(|line| &mut line.0);
        if operands == Operands::Bf16 {
            pair_row(k, &mut words);
            keys.iter_mut().zip(&words).for_each(|(line, word)| line.0[place] = *word);
            let shift = 16 * (place % 2);
            for (word, v) in values.zip(v) {
                let other = word.to_bits() & 0xFFFF_0000 >> shift;
                *word = f32::from_bits(other | round(*v) >> 16 << shift);
            }
        } else {
            keys.iter_mut().zip(k).for_each(|(line, k)| line.0[place] = *k);
            values.zip(v).for_each(|(value, v)| *value = *v);
        }
        self.words = words;
    }

    fn block_mut(&mut self, block: usize) -> (&mut [Line], &mut [Line]) {
        let (key_lines, value_lines) = (self.key_block(), self.value_block());
        let (segment, place) = place_of(block);
        let Segment { keys, values } = &mut self.segments[segment];
        (&mut keys[place * key_lines..][..key_lines], &mut values[place * value_lines..][..value_lines])
    }

    /// Keys whose values make one step.
    fn keys_per_step(&self) -> usize {
        BLOCK / self.operands.steps(BLOCK)
    }

    /// The keys of a block: a step of channels after the other.
    pub(super) fn keys(&self, block: usize) -> Columns<'_> {
        let (segment, place) = place_of(block);
        let data = &self.segments[segment].keys[place * self.key_block()..][..self.key_block()];
        Columns { data, lines: 1 }
    }

    /// The values of a block: a step of keys after the other.
    pub(super) fn values(&self, block: usize) -> Columns<'_> {
        let (segment, place) = place_of(block);
        let data = &self.segments[segment].values[place * self.value_block()..][..self.value_block()];
        Columns { data, lines: self.value_lines() }
    }

    /// Lines of the values of one step.
    pub(super) fn value_lines(&self) -> usize {
        self.dim.div_ceil(16)
    }

    fn key_block(&self) -> usize {
        self.operands.steps(self.dim)
    }

    fn value_block(&self) -> usize {
        self.operands.steps(BLOCK) * self.value_lines()
    }
}

/// So many lines.
fn zeros(lines: usize) -> Box<[Line]> {
    // SAFETY: zeros are a line.
    unsafe { Box::new_zeroed_slice(lines).assume_init() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_has_a_place_of_its_own() {
        let mut cached = KeyValues::new(Operands::F32, 3, 40);
        for (blocks, room) in [(1, 4), (5, 12), (3, 12), (29, 40), (40, 40)] {
            cached.grow(blocks);
            let keys = cached.segments.iter().map(|segment| segment.keys.len() / 3);
            assert_eq!(keys.sum::<usize>(), room, "twice as many, but never beyond the limit");
        }
        let value = |block: usize| [block as f32; 3];
        for block in 0..40 {
            cached.store(std::iter::once((block, 0, &value(block)[..], &value(block)[..])));
        }
        cached.copy_block(2, 39);
        for block in 0..40 {
            let expected = if block == 39 { 2.0 } else { block as f32 };
            assert_eq!((cached.keys(block).data[0].0[0], cached.keys(block).data[0].0[1]), (expected, 0.0));
            assert_eq!(cached.values(block).data[0].0[..4], [expected, expected, expected, 0.0]);
        }
    }
}
