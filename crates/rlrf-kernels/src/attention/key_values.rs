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
    keys: Vec<Line>,
    values: Vec<Line>,
    /// A rounded key on its way.
    words: Vec<f32>,
}

impl KeyValues {
    /// No blocks yet, of heads with `dim` channels.
    ///
    /// # Panics
    /// If the operands are others than f32 or bf16.
    pub fn new(operands: Operands, dim: usize) -> Self {
        assert!(matches!(operands, Operands::F32 | Operands::Bf16), "keys are held in f32 or bf16");
        Self { operands, dim, keys: Vec::new(), values: Vec::new(), words: vec![0.0; dim.div_ceil(2)] }
    }

    /// How keys and values are held.
    pub fn operands(&self) -> Operands {
        self.operands
    }

    /// Number of channels.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.values.len() / self.value_block()
    }

    /// Changes the number of blocks; new ones are zero.
    pub fn resize(&mut self, blocks: usize) {
        let lines = [self.key_block(), self.value_block()];
        for (lines, storage) in lines.into_iter().zip([&mut self.keys, &mut self.values]) {
            storage.reserve_exact((lines * blocks).saturating_sub(storage.len()));
            storage.resize(lines * blocks, Line([0.0; 16]));
        }
    }

    /// Copies one block over another.
    ///
    /// # Panics
    /// If there is no such block.
    pub fn copy_block(&mut self, from: usize, to: usize) {
        let lines = [self.key_block(), self.value_block()];
        for (lines, storage) in lines.into_iter().zip([&mut self.keys, &mut self.values]) {
            storage.copy_within(from * lines..(from + 1) * lines, to * lines);
        }
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
        let (key_lines, value_lines, lines) = (self.key_block(), self.value_block(), self.value_lines());
        let step = place / self.keys_per_step();
        let keys = &mut self.keys[block * key_lines..][..key_lines];
        let values = &mut self.values[block * value_lines..][..value_lines];
        let values = values[step * lines..][..lines].iter_mut().flat_map(|line| &mut line.0);
        if self.operands == Operands::Bf16 {
            pair_row(k, &mut self.words);
            keys.iter_mut().zip(&self.words).for_each(|(line, word)| line.0[place] = *word);
            let shift = 16 * (place % 2);
            for (word, v) in values.zip(v) {
                let other = word.to_bits() & 0xFFFF_0000 >> shift;
                *word = f32::from_bits(other | round(*v) >> 16 << shift);
            }
        } else {
            keys.iter_mut().zip(k).for_each(|(line, k)| line.0[place] = *k);
            values.zip(v).for_each(|(value, v)| *value = *v);
        }
    }

    /// Keys whose values make one step.
    fn keys_per_step(&self) -> usize {
        BLOCK / self.operands.steps(BLOCK)
    }

    /// The keys of a block: a step of channels after the other.
    pub(super) fn keys(&self, block: usize) -> Columns<'_> {
        Columns { data: &self.keys[block * self.key_block()..][..self.key_block()], lines: 1 }
    }

    /// The values of a block: a step of keys after the other.
    pub(super) fn values(&self, block: usize) -> Columns<'_> {
        let data = &self.values[block * self.value_block()..][..self.value_block()];
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
