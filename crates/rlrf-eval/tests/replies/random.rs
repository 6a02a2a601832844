//! Random mutations of texts, the same on every machine.

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub(crate) fn choose<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// A byte position of `text` where one of `characters` stands.
    pub(crate) fn place(&mut self, text: &str, characters: &[char]) -> usize {
        let places: Vec<usize> = text.match_indices(characters).map(|(place, _)| place).collect();
        *self.choose(&places)
    }
}

/// Cut anywhere behind its first letters: of two verdicts, the first must be there to be contradicted.
pub(crate) fn truncated(text: &str, random: &mut Random) -> String {
    let places: Vec<usize> = text.char_indices().map(|(place, _)| place).skip(8).collect();
    text[..*random.choose(&places)].to_string()
}
