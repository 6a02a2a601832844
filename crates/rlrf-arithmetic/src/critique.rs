//! Critiques: the reference beside the attempt, step by step and word by word, then what to change, in which step.
//!
//! A critique reads `(1) 80 80 same, / - other, 20 20 same; step 1: divide, do not subtract`. Comparing two words that stand side
//! by side is all that a small feedback model has to learn, where judging two expressions at a glance is beyond it; its
//! verdict then follows from its own reasons, but where another calculation has the same value. The advice after the last semicolon alone is what a policy refines under: it
//! names step, operation or number, and never spells out the solution.

use crate::advice::Advice;
use crate::alignment::Alignment;
use crate::expression::Expression;

/// A written finding and its level on the rubric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Critique {
    /// The finding.
    pub text: String,
    /// 3 = the value is right, 2 = one mistake is all, or some step is right, 1 = otherwise.
    pub level: u8,
}

/// Compares an attempt with the reference, step by step in the order of calculation, and advises on the first step of
/// the reference that the attempt does not have: on its one mistake, or on the first of several.
#[must_use]
pub fn critique(reference: &Expression, attempt: &str) -> Critique {
    let Some(attempt) = Expression::parse(attempt) else {
        return Critique { text: format!("not an expression; {}", Advice::Write), level: 1 };
    };
    let alignment = Alignment::new(reference, &attempt);
    let advice = &advice_on(reference, &attempt, &alignment)[0];
    let level = if *advice == Advice::Right {
        3
    } else if alignment.is_one_mistake() || alignment.steps().any(|(number, ..)| alignment.has(number)) {
        2
    } else {
        1
    };
    let text = match reference {
        Expression::Operation(..) => format!("{alignment}; {advice}"),
        // Nothing to set beside the attempt.
        Expression::Number(_) => advice.to_string(),
    };
    Critique { text, level }
}

/// Every advice that is equally right; at least one.
fn advice_on(reference: &Expression, attempt: &Expression, alignment: &Alignment<'_>) -> Vec<Advice> {
    if attempt.value().is_some() && attempt.value() == reference.value() {
        return vec![Advice::Right];
    }
    Advice::on(alignment)
}

/// Whether the advice at the end of a critique is right on the attempt: one of those that are equally right where the
/// attempt is wrong, and that it is right where it is.
#[must_use]
pub fn names_error(reference: &Expression, attempt: &str, critique: &str) -> bool {
    let advice = critique.rsplit_once("; ").map_or(critique, |(_, advice)| advice);
    let given = Advice::parse(advice);
    let known = Expression::parse(attempt).map_or_else(
        || vec![Advice::Write],
        |attempt| advice_on(reference, &attempt, &Alignment::new(reference, &attempt)),
    );
    given.is_some_and(|given| known.iter().any(|known| known.is_same(&given)))
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
            ("9 - 4", "7 * 5", 1, "step 1: subtract, do not multiply"),
            ("9 - 4", "7 - 5", 1, "step 1: use 9, not 7"),
            ("9 - 4", "7", 1, "step 1: subtract"),
            ("9 - 4", "9 - 4 + 2", 2, "stop after step 1"),
            ("( 16 + 14 ) / 5", "16 + 14", 2, "step 2: divide"),
            ("( 16 + 14 ) / 5", "( 16 + 14 ) * 5", 2, "step 2: divide, do not multiply"),
            ("( 16 + 14 ) / 5", "( 16 - 14 ) / 5", 2, "step 1: add, do not subtract"),
            ("( 16 + 14 ) / 5", "16 / 5", 1, "step 1: add"),
            ("9 - 4", "9 -", 1, "write an expression"),
            ("( 9 - 4 ) * 2", "9 * 2", 1, "step 1: subtract"),
            ("9 - 4", "Level: 3", 1, "write an expression"),
            ("9 - 4", "9 / 0", 1, "step 1: subtract, do not divide"),
        ] {
            let found = critique(&Expression::parse(reference).unwrap(), attempt);
            let (_, found_advice) = found.text.rsplit_once("; ").unwrap();
            assert_eq!((found.level, found_advice), (level, advice), "{attempt} for {reference}");
        }
        // A number alone has no step to set beside the attempt's.
        for (attempt, level, text) in [("14 + 16", 1, "find another value"), ("15 / 2", 3, "right")] {
            let found = critique(&Expression::parse("7.5").unwrap(), attempt);
            assert_eq!((found.level, found.text.as_str()), (level, text), "{attempt}");
            assert!(names_error(&Expression::parse("7.5").unwrap(), attempt, text));
        }
    }

    #[test]
    fn a_critique_is_held_against_what_the_program_knows() {
        for (reference, attempt, critique, named) in [
            ("3 * 4", "4 * 3", "3 4 other; right", true),
            ("3 * 4", "3 + 4", "right", false),
            ("3 * 4", "3 + 4", "* + other; step 1: multiply, do not add", true),
            ("3 * 4", "3 + 4", "step 1: multiply", false),
            ("3 * 4", "3 * 4", "step 1: multiply, do not add", false),
            ("9 - 4", "9 -", "write an expression", true),
            ("9 - 4", "9 - 5", "write an expression", false),
            ("( 1 + 2 ) * ( 9 - 4 )", "( 1 - 2 ) * ( 9 - 5 )", "step 2: use 4, not 5", true),
            ("( 1 + 2 ) * ( 9 - 4 )", "( 1 - 2 ) * ( 9 - 5 )", "step 3: multiply", false),
            ("9 - 4", "9 - 5", "", false),
            ("9 - 4", "9 - 5", "step 1: use 4, not 5; right", false),
        ] {
            let reference = Expression::parse(reference).unwrap();
            assert_eq!(names_error(&reference, attempt, critique), named, "{critique} on {attempt}");
            assert!(names_error(&reference, attempt, &super::critique(&reference, attempt).text));
        }
    }
}
