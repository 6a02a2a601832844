//! Levels and scores as judges write them.

use std::ops::RangeInclusive;

/// What stands where a level or score should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// A number of the scale, and whether it is written as asked for (a digit).
    Score(u8, bool),
    /// "N/A", and whether it is written exactly so.
    NotApplicable(bool),
    /// A number that is none of the scale: 0, 6, 4.5, 8/10.
    OutOfRange,
    /// A placeholder in brackets: the prompt's own example, not a verdict.
    Placeholder,
    /// Anything else: words, other scripts' digits.
    Unreadable,
}

impl Written {
    /// Reads what stands where a number of `scale` (1 to at most 9) should be: on a scale of 1 to 5, `4`, `4.0`, `4/5` and
    /// `4 out of 5` are 4. Digits are the ASCII ones alone: a reply that leaves the asked form there may have left it
    /// elsewhere, too.
    #[must_use]
    pub fn read(text: &str, scale: &RangeInclusive<u8>) -> Self {
        let text = text.trim();
        let lower = text.to_ascii_lowercase();
        if matches!(lower.as_str(), "n/a" | "na" | "not applicable") {
            return Self::NotApplicable(text == "N/A");
        }
        if text.starts_with('[') && text.ends_with(']') {
            return Self::Placeholder;
        }
        let (number, whole) = match lower.split_once('/').or_else(|| lower.split_once("out of")) {
            Some((number, whole)) => (number.trim_end(), Some(whole.trim_start())),
            None => (lower.as_str(), None),
        };
        let plain = |text: &str| {
            let digits = text.strip_prefix('-').unwrap_or(text);
            let (units, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
            [units, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
        };
        if !plain(number) || whole.is_some_and(|whole| !plain(whole)) {
            return Self::Unreadable;
        }
        let score = match number.strip_suffix(".0").unwrap_or(number).as_bytes() {
            [digit @ b'0'..=b'9'] if scale.contains(&(digit - b'0')) => digit - b'0',
            _ => return Self::OutOfRange,
        };
        match whole {
            Some(whole) if whole != scale.end().to_string() => Self::OutOfRange,
            whole => Self::Score(score, number.len() == 1 && whole.is_none()),
        }
    }

    /// The same for what follows a mark such as `[RESULT]` to the end of a reply: a colon before it, brackets around it, a
    /// full stop and an end-of-text token behind it are no part of the number.
    #[must_use]
    pub fn read_after_mark(text: &str, scale: &RangeInclusive<u8>) -> Self {
        let text = text.trim().trim_start_matches(':').trim_start();
        let text = text.strip_suffix("</s>").unwrap_or(text).trim_end();
        let unwrapped = text.strip_prefix('(').and_then(|text| text.strip_suffix(')')).unwrap_or(text);
        Self::read(unwrapped.strip_suffix('.').unwrap_or(unwrapped), scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Written {
        Written::read(text, &(1..=5))
    }

    #[test]
    fn what_is_a_score() {
        for (text, score, plain) in
            [("4", 4, true), (" 1 ", 1, true), ("4.0", 4, false), ("5/5", 5, false), ("3 / 5", 3, false)]
        {
            assert_eq!(read(text), Written::Score(score, plain), "{text}");
        }
        assert_eq!(read("2 out of 5"), Written::Score(2, false));
    }

    #[test]
    fn what_is_none() {
        for text in ["0", "6", "10", "45", "-1", "4.5", "3.50", "4/10", "8/10", "5/55", "04", "4.00", "4/5.0"]
        {
            assert_eq!(read(text), Written::OutOfRange, "{text}");
        }
        for text in [
            "", "four", "\u{664}", "\u{ff14}", "\u{2463}", "\u{6cb}", "IV", "4 or 5", "3-4", "4/5/5",
            "**4**", "4,0", "1e0", "+4", ".4", "4.", "4/", "/5", "score: 4", "good", "true", "4 5", "0x4",
        ] {
            assert_eq!(read(text), Written::Unreadable, "{text}");
        }
        assert_eq!(read("[score from 1 to 5]"), Written::Placeholder);
        assert_eq!(read("N/A"), Written::NotApplicable(true));
        assert_eq!(read("n/a "), Written::NotApplicable(false));
    }

    #[test]
    fn another_scale_has_other_ends() {
        assert_eq!(Written::read("3/3", &(1..=3)), Written::Score(3, false));
        for text in ["4", "3/5", "4/3", "0"] {
            assert_eq!(Written::read(text, &(1..=3)), Written::OutOfRange, "{text}");
        }
    }
}
