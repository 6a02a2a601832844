//! Tokens to work on. Speed does not depend on which they are.

/// Ids below this are special tokens in most vocabularies.
const FIRST: u64 = 5;

/// An endless supply of tokens, the same in every process.
pub(crate) struct RandomTokens {
    state: u64,
    vocab_size: u64,
}

impl RandomTokens {
    /// Tokens of a vocabulary.
    pub(crate) fn new(vocab_size: usize) -> Self {
        Self { state: 0, vocab_size: vocab_size as u64 }
    }

    /// The next `count` tokens.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.next_token()).collect()
    }

    /// Source: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014 (SplitMix64).
    fn next_token(&mut self) -> u32 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        let first = FIRST.min(self.vocab_size - 1);
        (first + z % (self.vocab_size - first)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stay_within_any_vocabulary() {
        for vocab_size in [1, 5, 6, 1000] {
            let tokens = RandomTokens::new(vocab_size).take(100);
            assert!(tokens.iter().all(|&token| (token as usize) < vocab_size), "{vocab_size}: {tokens:?}");
        }
    }
}
