//! Stop strings, found in the text as it grows.

use rlrf_model::Tokenizer;

use crate::Result;

/// A character is at most four bytes and a token at least one, so more undecided tokens than this are not an
/// unfinished character: they decode to nothing, or to invalid text.
const MAX_UNDECIDED: usize = 8;

/// Where a text ends before a stop string.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Stopped {
    /// How many tokens lie wholly before the stop string.
    pub(crate) kept: usize,
    /// The text before the stop string.
    pub(crate) text: String,
}

/// The decoded text of a growing list of tokens, at constant cost per token.
///
/// What a token adds to a text depends on its neighbours (leading spaces, characters split over tokens), so
/// each step decodes a window of the last tokens, with and without the new ones, and takes the difference.
#[derive(Debug, Default)]
pub(crate) struct StopFinder {
    text: String,
    /// Where the text of each decided token ends.
    ends: Vec<usize>,
    /// First token of the window.
    window: usize,
}

impl StopFinder {
    /// Takes notice of the last of `tokens` (all that were drawn so far); finds the first stop string that it completes.
    pub(crate) fn push(
        &mut self,
        tokens: &[u32],
        stop: &[String],
        tokenizer: &Tokenizer,
    ) -> Result<Option<Stopped>> {
        if stop.is_empty() {
            return Ok(None);
        }
        let decided = self.ends.len();
        let before = tokenizer.decode(&tokens[self.window..decided])?;
        let after = tokenizer.decode(&tokens[self.window..])?;
        let undecided = after.len() <= before.len() || after.ends_with(char::REPLACEMENT_CHARACTER);
        if undecided && tokens.len() - decided < MAX_UNDECIDED {
            return Ok(None);
        }
        let longest = stop.iter().map(String::len).max().unwrap_or(0);
        let unseen = self.text.floor_char_boundary((self.text.len() + 1).saturating_sub(longest));
        self.text.push_str(after.get(before.len()..).unwrap_or_default());
        self.ends.resize(tokens.len(), self.text.len());
        self.window = decided;

        let found = stop.iter().filter_map(|stop| self.text[unseen..].find(stop.as_str())).min();
        Ok(found.map(|found| {
            let end = unseen + found;
            let kept = self.ends.partition_point(|&token_end| token_end <= end);
            Stopped { kept, text: self.text[..end].to_owned() }
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tokenizer() -> Tokenizer {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../rlrf-model/tests/fixtures/stories260K");
        rlrf_model::Model::load(Path::new(folder)).unwrap().tokenizer
    }

    fn find(tokens: &[u32], stop: &[&str], tokenizer: &Tokenizer) -> Option<Stopped> {
        let stop: Vec<String> = stop.iter().map(|stop| (*stop).to_owned()).collect();
        let mut finder = StopFinder::default();
        (1..=tokens.len()).find_map(|len| finder.push(&tokens[..len], &stop, tokenizer).unwrap())
    }

    /// This tokenizer falls back to bytes: each of these characters is two to four tokens.
    #[test]
    fn characters_of_many_bytes_are_found_whole() {
        let tokenizer = tokenizer();
        let text = "naïve café, Zoë and 東京 🦙 said: é🦙";
        let tokens = tokenizer.encode(text).unwrap();
        for stop in ["ï", "é,", "東", "京 🦙", "🦙", "é🦙", " 東京"] {
            let place = text.find(stop).unwrap();
            let stopped = find(&tokens, &[stop], &tokenizer).unwrap();
            assert_eq!(stopped.text, text[..place]);
            let kept = tokenizer.decode(&tokens[..stopped.kept]).unwrap();
            assert!(text[..place].starts_with(&kept) && place - kept.len() <= 1, "{kept:?} {place}");
        }
        assert_eq!(find(&tokens, &["京🦙", "never"], &tokenizer), None);
    }

    #[test]
    fn the_first_of_several_wins() {
        let tokenizer = tokenizer();
        let tokens = tokenizer.encode("She said, \"I want to play with your ball.\"").unwrap();
        let stopped = find(&tokens, &["ball", "want to", "want", "I want to play"], &tokenizer).unwrap();
        assert_eq!(stopped.text, "She said, \"I ");
        let stopped = find(&tokens, &["ball", "e said", "said"], &tokenizer).unwrap();
        assert_eq!(stopped.text, "Sh");
    }

    /// Invalid bytes never complete a character, but must not hold up what follows them.
    #[test]
    fn invalid_bytes_do_not_hide_a_stop_string() {
        let tokenizer = tokenizer();
        let mut tokens = tokenizer.encode("Once").unwrap();
        tokens.extend([198; 40]);
        tokens.extend(tokenizer.encode("Lily said. The end").unwrap());
        assert!(find(&tokens, &["said."], &tokenizer).unwrap().kept >= 41);
    }
}
