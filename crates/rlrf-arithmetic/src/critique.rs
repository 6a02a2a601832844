//! Critiques: what is wrong with an attempt, in which step, and what is needed there.

use crate::expression::Expression;

/// A written finding and its level on the rubric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Critique {
    /// The finding.
    pub text: String,
    /// 3 = the value is right, 2 = one local error or some step is right, 1 = otherwise.
    pub level: u8,
}

impl Critique {
    fn new(level: u8, text: impl Into<String>) -> Self {
        Self { text: text.into(), level }
    }
}

/// Compares an attempt with the reference, step by step in the order of calculation, and names the first step
/// of the reference that the attempt does not have.
#[must_use]
pub fn critique(reference: &Expression, attempt: &str) -> Critique {
    let Some(attempt) = Expression::parse(attempt) else {
        return Critique::new(1, "This is not an expression.");
    };
    if attempt.value().is_some() && attempt.value() == reference.value() {
        return Critique::new(3, "Right.");
    }
    let attempted = attempt.steps();
    let steps = reference.steps();
    let has = |step: &Expression| attempted.iter().any(|other| other.same_calculation(step));
    let Some(missing) = steps.iter().position(|step| !has(step)) else {
        return Critique::new(2, format!("Stop after {}.", steps.last().unwrap_or(&reference)));
    };
    let step = steps[missing];
    let number = missing + 1;
    // Only as local as it is true: some other step right, or this one nearly so.
    let some_step_right = steps.iter().any(|step| has(step));
    let one_step = steps.len() == 1 && attempted.len() == 1;
    let near = attempted.iter().find_map(|other| local_error(step, other).map(|error| (error, *other)));
    match near {
        Some((error, _)) => {
            let level = if one_step || some_step_right || attempted.len() == steps.len() { 2 } else { 1 };
            Critique::new(level, format!("Step {number}: {error}"))
        }
        None => {
            let level = if some_step_right { 2 } else { 1 };
            Critique::new(level, format!("Step {number} must be {step}."))
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
    if straight == (true, true)
        || (crossed == (true, true) && (operator.is_commutative() || other.is_commutative()))
    {
        return Some(format!("{}, do not {}: {step}.", operator.verb(), other.verb()));
    }
    if operator != other {
        return None;
    }
    if crossed == (true, true) {
        return Some(format!("swap the numbers: {step}."));
    }
    let wrong = match (straight, crossed) {
        ((true, false), _) => d,
        ((false, true), _) => c,
        (_, (true, false)) if operator.is_commutative() => c,
        (_, (false, true)) if operator.is_commutative() => d,
        _ => return None,
    };
    Some(format!("{wrong} is wrong: {step}."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn critiques_localise_the_first_error() {
        for (reference, attempt, level, text) in [
            ("3 * 4", "4 * 3", 3, "Right."),
            ("3 * 4", "12", 3, "Right."),
            ("3 * 4", "3 + 4", 2, "Step 1: multiply, do not add: 3 * 4."),
            ("9 - 4", "4 - 9", 2, "Step 1: swap the numbers: 9 - 4."),
            ("9 - 4", "9 - 5", 2, "Step 1: 5 is wrong: 9 - 4."),
            ("9 + 4", "5 + 9", 2, "Step 1: 5 is wrong: 9 + 4."),
            ("9 - 4", "7 * 5", 1, "Step 1 must be 9 - 4."),
            ("9 - 4", "9 - 4 + 2", 2, "Stop after 9 - 4."),
            ("( 16 + 14 ) / 5", "16 + 14", 2, "Step 2 must be ( 16 + 14 ) / 5."),
            ("( 16 + 14 ) / 5", "( 16 + 14 ) * 5", 2, "Step 2: divide, do not multiply: ( 16 + 14 ) / 5."),
            ("( 16 + 14 ) / 5", "( 16 - 14 ) / 5", 2, "Step 1: add, do not subtract: 16 + 14."),
            ("( 16 + 14 ) / 5", "16 / 5", 1, "Step 1 must be 16 + 14."),
            ("9 - 4", "9 -", 1, "This is not an expression."),
            ("9 - 4", "Level: 3", 1, "This is not an expression."),
            ("9 - 4", "9 / 0", 1, "Step 1 must be 9 - 4."),
        ] {
            let found = critique(&Expression::parse(reference).unwrap(), attempt);
            assert_eq!((found.level, found.text.as_str()), (level, text), "{attempt} for {reference}");
        }
    }
}
