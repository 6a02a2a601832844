//! Prose beside a judge's verdict, which may contradict it: "Correction: depth should be 3".

use std::collections::BTreeMap;

use super::aspects::AspectVerdict;

/// How far behind an aspect's name a number is taken as said of it, in characters.
const REACH: usize = 48;

/// Whether `text` names an aspect and, in the same sentence, another number than the verdict's.
pub(super) fn contradicts(text: &str, verdicts: &BTreeMap<String, AspectVerdict>) -> bool {
    verdicts.iter().any(|(aspect, verdict)| verdict.is_read() && says_otherwise(text, aspect, *verdict))
}

/// Whether `text` gives another score without naming an aspect, where there is but one that it can mean.
pub(super) fn corrects(text: &str, verdicts: &BTreeMap<String, AspectVerdict>) -> bool {
    let mut verdicts = verdicts.values();
    match (verdicts.next(), verdicts.next()) {
        (Some(verdict), None) if verdict.is_read() => {
            ["score", "rating", "verdict"].iter().any(|word| says_otherwise(text, word, *verdict))
        }
        _ => false,
    }
}

fn says_otherwise(text: &str, word: &str, verdict: AspectVerdict) -> bool {
    let text = text.to_lowercase();
    text.match_indices(word).any(|(start, _)| {
        let rest = &text[start + word.len()..];
        let end = rest
            .char_indices()
            .zip(rest.char_indices().skip(1).map(|(_, next)| next).chain([' ']))
            .take(REACH)
            .find(|((_, here), next)| matches!(here, '\n' | ';') || (*here == '.' && !next.is_ascii_digit()))
            .map_or_else(
                || rest.char_indices().nth(REACH).map_or(rest.len(), |(end, _)| end),
                |((end, _), _)| end,
            );
        numbers(&rest[..end]).first().is_some_and(|number| verdict != AspectVerdict::Score(*number))
    })
}

/// The whole numbers up to 10 in a sentence; a range such as "1 to 5" or "1-5" names the scale and is no score.
fn numbers(sentence: &str) -> Vec<u8> {
    let words: Vec<&str> =
        sentence.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty()).collect();
    let mut numbers = Vec::new();
    let mut at = 0;
    while at < words.len() {
        match &words[at..] {
            ["1", "to", "5", ..] => at += 3,
            ["1", "5", ..] => at += 2,
            [word, ..] => {
                numbers.extend(word.parse().ok().filter(|number: &u8| *number <= 10));
                at += 1;
            }
            [] => break,
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdicts(list: &[(&str, AspectVerdict)]) -> BTreeMap<String, AspectVerdict> {
        list.iter().map(|(aspect, verdict)| (aspect.to_string(), *verdict)).collect()
    }

    #[test]
    fn another_number_for_an_aspect() {
        let said = verdicts(&[("depth", AspectVerdict::Score(4)), ("clarity", AspectVerdict::Score(5))]);
        for text in [
            "Correction: depth should be 3.",
            "**Depth**: 2/5",
            "Clarity 5, but on reflection, depth 3",
            "The clarity deserves (on a scale of 1 to 5) a 4",
        ] {
            assert!(contradicts(text, &said), "{text}");
        }
        for text in [
            "",
            "Depth: 4. Clarity: 5/5.",
            "I rate depth and clarity from 1 to 5:",
            "There is some depth. I found 3 remarks.",
            "Depth\n3 remarks",
        ] {
            assert!(!contradicts(text, &said), "{text}");
        }
        let none = verdicts(&[("depth", AspectVerdict::NotApplicable)]);
        assert!(contradicts("Depth is 3", &none));
    }

    #[test]
    fn a_corrected_single_score() {
        let said = verdicts(&[("safety", AspectVerdict::Score(5))]);
        assert!(corrects("On reflection the score should be 1.", &said));
        assert!(!corrects("The score is 5. The scores go from 1 to 5.", &said));
        let two = verdicts(&[("depth", AspectVerdict::Score(5)), ("clarity", AspectVerdict::Score(3))]);
        assert!(!corrects("The best score is 5", &two));
    }
}
