//! Scores as judges write them.

/// The scale of a judge's scores.
pub const SCALE: std::ops::RangeInclusive<u8> = 1..=5;

/// What stands where a score should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// A score, and whether it is written as asked for (a digit).
    Score(u8, bool),
    /// "N/A", and whether it is written exactly so.
    NotApplicable(bool),
    /// A number that is no score: 0, 6, 4.5, 8/10.
    OutOfRange,
    /// A placeholder in brackets: the prompt's own example, not a verdict.
    Placeholder,
    /// Anything else: words, other scripts' digits.
    Unreadable,
}

/// Reads what stands where a score should be: `4`, `4.0`, `4/5` and `4 out of 5` are the score 4.
pub(super) fn read(text: &str) -> Written {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    if matches!(lower.as_str(), "n/a" | "na" | "not applicable") {
        return Written::NotApplicable(text == "N/A");
    }
    if text.starts_with('[') && text.ends_with(']') {
        return Written::Placeholder;
    }
    let (number, whole) = match lower.split_once('/').or_else(|| lower.split_once("out of")) {
        Some((number, scale)) => (number.trim_end(), Some(scale.trim_start())),
        None => (lower.as_str(), None),
    };
    let plain = |text: &str| {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (units, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        [units, fraction].iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    if !plain(number) || whole.is_some_and(|whole| !plain(whole)) {
        return Written::Unreadable;
    }
    let score = match number.strip_suffix(".0").unwrap_or(number).as_bytes() {
        [digit @ b'1'..=b'5'] if whole.is_none_or(|whole| whole == "5") => digit - b'0',
        _ => return Written::OutOfRange,
    };
    Written::Score(score, number.len() == 1 && whole.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
