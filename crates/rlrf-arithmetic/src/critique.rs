//! Critiques: the reference beside the attempt, word by word, then what to change, in which step.
//!
//! A critique reads `80 80 same, / - other, 20 20 same; step 1: divide, do not subtract`. Comparing two words that stand side
//! by side is all that a small feedback model has to learn, where judging two expressions at a glance is beyond it; its
//! verdict then follows from its own reasons. The advice after the semicolon alone is what a policy refines under: it names
//! step, operation or number, and never spells out the solution.

use crate::expression::{Expression, Operator};

/// A written finding and its level on the rubric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Critique {
    /// The finding.
    pub text: String,
    /// 3 = the value is right, 2 = one local error or some step is right, 1 = otherwise.
    pub level: u8,
}

/// Compares an attempt with the reference, step by step in the order of calculation, and advises on the first step of
/// the reference that the attempt does not have.
#[must_use]
pub fn critique(reference: &Expression, attempt: &str) -> Critique {
    let (level, advice) = match Expression::parse(attempt) {
        None => (1, "write an expression".to_string()),
        Some(parsed) if parsed.value().is_some() && parsed.value() == reference.value() => {
            (3, "right".to_string())
        }
        Some(parsed) => advise(reference, &parsed),
    };
    Critique { text: format!("{}; {advice}", comparison(&reference.to_string(), attempt)), level }
}

/// The words of both side by side, `none` standing for a word that one of them lacks.
fn comparison(reference: &str, attempt: &str) -> String {
    let (mut needed, mut found) = (reference.split_whitespace(), attempt.split_whitespace());
    let mut pairs = Vec::new();
    loop {
        let (word, other) = match (needed.next(), found.next()) {
            (None, None) => return pairs.join(", "),
            (word, other) => (word.unwrap_or("none"), other.unwrap_or("none")),
        };
        pairs.push(format!("{word} {other} {}", if word == other { "same" } else { "other" }));
    }
}

fn advise(reference: &Expression, attempt: &Expression) -> (u8, String) {
    let attempted = attempt.steps();
    let steps = reference.steps();
    let has = |step: &Expression| attempted.iter().any(|other| other.same_calculation(step));
    let Some(missing) = steps.iter().position(|step| !has(step)) else {
        return (2, format!("stop after step {}", steps.len()));
    };
    let number = missing + 1;
    let some_step_right = steps.iter().any(|step| has(step));
    let same_length = attempted.len() == steps.len();
    match attempted.iter().find_map(|other| local_error(steps[missing], other)) {
        Some(error) => {
            (if some_step_right || same_length { 2 } else { 1 }, format!("step {number}: {error}"))
        }
        None => {
            let Expression::Operation(operator, ..) = steps[missing] else {
                return (1, "write an expression".into());
            };
            (if some_step_right { 2 } else { 1 }, format!("step {number}: {}", operator.verb()))
        }
    }
}

/// The one thing that differs between a step of the reference and one of the attempt; none if more differs.
fn local_error(step: &Expression, attempt: &Expression) -> Option<String> {
    let (Expression::Operation(operator, a, b), Expression::Operation(other, c, d)) = (step, attempt) else {
        return None;
    };
    let straight = (a.same_calculation(c), b.same_calculation(d));
    let crossed = (a.same_calculation(d), b.same_calculation(c));
    if operator != other {
        let same_numbers = straight == (true, true) || crossed == (true, true);
        return same_numbers.then(|| format!("{}, do not {}", operator.verb(), other.verb()));
    }
    if crossed == (true, true) {
        return Some("swap the numbers".into());
    }
    let commutes = Operator::is_commutative(*operator);
    let (right, wrong) = match (straight, crossed) {
        ((true, false), _) => (b, d),
        ((false, true), _) => (a, c),
        (_, (true, false)) if commutes => (b, c),
        (_, (false, true)) if commutes => (a, d),
        _ => return None,
    };
    Some(format!("use {right}, not {wrong}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critiques_localise_the_first_error() {
        for (reference, attempt, level, advice) in [
            ("3 * 4", "4 * 3", 3, "right"),
            ("3 * 4", "12", 3, "right"),
            ("3 * 4", "3 + 4", 2, "step 1: multiply, do not add"),
            ("9 - 4", "4 + 9", 2, "step 1: subtract, do not add"),
            ("9 - 4", "4 - 9", 2, "step 1: swap the numbers"),
            ("9 - 4", "9 - 5", 2, "step 1: use 4, not 5"),
            ("9 + 4", "5 + 9", 2, "step 1: use 4, not 5"),
            ("9 - 4", "7 * 5", 1, "step 1: subtract"),
            ("9 - 4", "9 - 4 + 2", 2, "stop after step 1"),
            ("( 16 + 14 ) / 5", "16 + 14", 2, "step 2: divide"),
            ("( 16 + 14 ) / 5", "( 16 + 14 ) * 5", 2, "step 2: divide, do not multiply"),
            ("( 16 + 14 ) / 5", "( 16 - 14 ) / 5", 2, "step 1: add, do not subtract"),
            ("( 16 + 14 ) / 5", "16 / 5", 1, "step 1: add"),
            ("9 - 4", "9 -", 1, "write an expression"),
            ("9 - 4", "Level: 3", 1, "write an expression"),
            ("9 - 4", "9 / 0", 1, "step 1: subtract"),
        ] {
            let found = critique(&Expression::parse(reference).unwrap(), attempt);
            let (_, found_advice) = found.text.rsplit_once("; ").unwrap();
            assert_eq!((found.level, found_advice), (level, advice), "{attempt} for {reference}");
        }
    }

    #[test]
    fn the_comparison_shows_both_word_by_word() {
        let found = critique(&Expression::parse("( 16 + 14 ) / 5").unwrap(), "16 + 5");
        assert_eq!(
            found.text,
            "( 16 other, 16 + other, + 5 other, 14 none other, ) none other, / none other, 5 none other; step 1: use 14, not 5"
        );
    }
}
