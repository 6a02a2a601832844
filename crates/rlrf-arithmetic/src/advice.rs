//! Advice on an attempt: the error that a critique names, in which step of the calculation, and what to do.

use std::fmt;

use crate::alignment::Alignment;
use crate::expression::{Expression, Operator};

/// What a critique advises; as text it is the critique's last part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// Nothing: the value is right.
    Right,
    /// The attempt cannot be read.
    Write,
    /// The value is another: all that is to be said where the reference is a number alone.
    Value,
    /// The first so many steps are all that is needed.
    Stop(usize),
    /// A step of the reference, counted from 1, that the attempt does not have.
    Step(usize, Fix),
}

/// What to do in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// Calculate it: the attempt has no step in its place.
    Calculate(Operator),
    /// The operation is another.
    Operation {
        /// In the reference.
        needed: Operator,
        /// In the attempt.
        found: Operator,
    },
    /// Exchange the operands.
    Swap,
    /// One operand is another.
    Operand {
        /// In the reference.
        needed: Expression,
        /// In the attempt.
        found: Expression,
    },
}

impl Advice {
    /// Every advice that is equally right on an attempt whose value is wrong; the first is the one that a critique gives.
    ///
    /// Equally right is what mends a step that the reference has and the attempt lacks, and whose own operands the attempt
    /// has: two steps that do not depend on each other have no order. The step is compared with the attempt's step in its
    /// place, or of the same number: the one mistake is named that stands between them; where there are more, any of them. So is
    /// the one mistake between it and any other mistaken step of the attempt.
    pub(crate) fn on(alignment: &Alignment<'_>) -> Vec<Self> {
        if alignment.steps().next().is_none() {
            return vec![Self::Value];
        }
        let is_ready =
            |operand: &Expression| alignment.step_number(operand).is_none_or(|number| alignment.has(number));
        let mut found: Vec<Self> = Vec::new();
        for (number, step, counterpart) in alignment.steps() {
            let Expression::Operation(_, left, right) = step else { continue };
            if alignment.has(number) || !is_ready(left) || !is_ready(right) {
                continue;
            }
            let in_place = Fix::all(step, counterpart);
            let elsewhere = alignment.mistaken().filter_map(|other| Fix::between(step, other));
            let same_number = alignment.mistaken_at(number).map(|other| Fix::all(step, Some(other)));
            for fix in in_place.into_iter().chain(elsewhere).chain(same_number.into_iter().flatten()) {
                let advice = Self::Step(number, fix);
                if !found.iter().any(|other| other.is_same(&advice)) {
                    found.push(advice);
                }
            }
        }
        if found.is_empty() {
            found.push(Self::Stop(alignment.steps().count()));
        }
        found
    }

    /// Reads what its `Display` writes; none if the text is anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.trim() {
            "right" => return Some(Self::Right),
            "write an expression" => return Some(Self::Write),
            "find another value" => return Some(Self::Value),
            _ => {}
        }
        if let Some(steps) = text.trim().strip_prefix("stop after step ") {
            return steps.parse().ok().map(Self::Stop);
        }
        let (number, fix) = text.trim().strip_prefix("step ")?.split_once(": ")?;
        Some(Self::Step(number.parse().ok()?, Fix::parse(fix)?))
    }

    /// Whether both say the same: numbers by value, operands of sums and products in any order.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Step(number, Fix::Operand { needed, found }),
                Self::Step(other, Fix::Operand { needed: other_needed, found: other_found }),
            ) => {
                number == other
                    && needed.same_calculation(other_needed)
                    && found.same_calculation(other_found)
            }
            _ => self == other,
        }
    }
}

impl Fix {
    /// The one thing that differs between a step of the reference and one of the attempt; none if more differs.
    pub(crate) fn between(step: &Expression, attempt: &Expression) -> Option<Self> {
        let (Expression::Operation(operator, a, b), Expression::Operation(other, c, d)) = (step, attempt)
        else {
            return None;
        };
        let straight = (a.same_calculation(c), b.same_calculation(d));
        let crossed = (a.same_calculation(d), b.same_calculation(c));
        if operator != other {
            let may_cross = operator.is_commutative() || other.is_commutative();
            let same_numbers = straight == (true, true) || (may_cross && crossed == (true, true));
            return same_numbers.then_some(Self::Operation { needed: *operator, found: *other });
        }
        if crossed == (true, true) {
            return Some(Self::Swap);
        }
        let commutes = operator.is_commutative();
        let (needed, found) = match (straight, crossed) {
            ((true, false), _) => (b, d),
            ((false, true), _) => (a, c),
            (_, (true, false)) if commutes => (b, c),
            (_, (false, true)) if commutes => (a, d),
            _ => return None,
        };
        Some(Self::Operand { needed: (**needed).clone(), found: (**found).clone() })
    }

    /// The one thing that differs between a step of the reference and one of the attempt, or everything: the operation first,
    /// then the operands from the left; beside a sum or product they are compared in the order in which they fit better.
    fn all(step: &Expression, attempt: Option<&Expression>) -> Vec<Self> {
        if let Some(only) = attempt.and_then(|other| Self::between(step, other)) {
            return vec![only];
        }
        let Expression::Operation(operator, a, b) = step else { return Vec::new() };
        let Some(Expression::Operation(other, c, d)) = attempt else {
            return vec![Self::Calculate(*operator)];
        };
        let fit = |c: &Expression, d: &Expression| {
            usize::from(a.same_calculation(c)) + usize::from(b.same_calculation(d))
        };
        let may_cross = operator.is_commutative() || other.is_commutative();
        let crossed = may_cross && fit(d, c) > fit(c, d);
        let (c, d) = if crossed { (d, c) } else { (c, d) };
        let mut found = Vec::new();
        if operator != other {
            found.push(Self::Operation { needed: *operator, found: *other });
        }
        for (needed, found_instead) in [(a, c), (b, d)] {
            if !needed.same_calculation(found_instead) {
                found.push(Self::Operand { needed: (**needed).clone(), found: (**found_instead).clone() });
            }
        }
        found
    }

    fn parse(text: &str) -> Option<Self> {
        let operator = |verb: &str| Operator::ALL.into_iter().find(|operator| operator.verb() == verb);
        if text == "swap the numbers" {
            return Some(Self::Swap);
        }
        if let Some((needed, found)) = text.strip_prefix("use ").and_then(|rest| rest.split_once(", not ")) {
            let [needed, found] = [needed, found].map(Expression::parse);
            return Some(Self::Operand { needed: needed?, found: found? });
        }
        match text.split_once(", do not ") {
            Some((needed, found)) => {
                Some(Self::Operation { needed: operator(needed)?, found: operator(found)? })
            }
            None => operator(text).map(Self::Calculate),
        }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Right => f.write_str("right"),
            Self::Write => f.write_str("write an expression"),
            Self::Value => f.write_str("find another value"),
            Self::Stop(steps) => write!(f, "stop after step {steps}"),
            Self::Step(number, fix) => write!(f, "step {number}: {fix}"),
        }
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Calculate(operator) => f.write_str(operator.verb()),
            Self::Operation { needed, found } => write!(f, "{}, do not {}", needed.verb(), found.verb()),
            Self::Swap => f.write_str("swap the numbers"),
            Self::Operand { needed, found } => write!(f, "use {needed}, not {found}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(reference: &str, attempt: &str) -> Vec<String> {
        let [reference, attempt] = [reference, attempt].map(|text| Expression::parse(text).unwrap());
        Advice::on(&Alignment::new(&reference, &attempt)).iter().map(Advice::to_string).collect()
    }

    #[test]
    fn what_is_written_is_read() {
        for text in [
            "right",
            "write an expression",
            "find another value",
            "stop after step 2",
            "step 1: add",
            "step 2: divide, do not multiply",
            "step 1: swap the numbers",
            "step 3: use 16 + 14, not 5.5",
            "step 1: use 4, not 12 / ( 3 - 1 )",
        ] {
            assert_eq!(Advice::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "Right",
            "step 1",
            "step one: add",
            "step 1: sum",
            "step 1: use 4",
            "step 1: use x, not 4",
            "step 1: add, do not sum",
            "stop after step",
            "stop",
            "right; right",
        ] {
            assert_eq!(Advice::parse(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_count_by_value_and_sums_in_any_order() {
        let same = |a: &str, b: &str| Advice::parse(a).unwrap().is_same(&Advice::parse(b).unwrap());
        assert!(same("step 1: use 4.0, not 5", "step 1: use 4, not 5"));
        assert!(same("step 2: use 3 + 4, not 5", "step 2: use 4 + 3, not 5"));
        assert!(!same("step 2: use 3 - 4, not 5", "step 2: use 4 - 3, not 5"));
        assert!(!same("step 1: use 4, not 5", "step 2: use 4, not 5"));
        assert!(!same("step 1: use 4, not 5", "step 1: use 4, not 6"));
        assert!(!same("step 1: use 4, not 5", "step 1: add"));
    }

    #[test]
    fn steps_that_do_not_depend_on_each_other_have_no_order() {
        assert_eq!(
            on("( 1 + 2 ) * ( 9 - 4 )", "( 1 - 2 ) * ( 9 - 5 )"),
            ["step 1: add, do not subtract", "step 2: use 4, not 5"]
        );
        // The last step is missing, too, but only because its operands are.
        assert_eq!(on("( 16 + 14 ) / 5", "( 16 - 14 ) / 5"), ["step 1: add, do not subtract"]);
        // Two steps of the attempt are one mistake away from the first.
        assert_eq!(
            on("9 + 4", "( 9 + 5 ) * ( 9 * 4 )"),
            ["step 1: use 4, not 5", "step 1: add, do not multiply"]
        );
        // Several mistakes in one step: any of them, the operation first.
        assert_eq!(
            on("280 - 212", "221 + 82"),
            ["step 1: subtract, do not add", "step 1: use 280, not 221", "step 1: use 212, not 82"]
        );
        assert_eq!(on("280 - 212", "82 + 280"), ["step 1: subtract, do not add", "step 1: use 212, not 82"]);
        assert_eq!(on("280 + 212", "212 * 82"), ["step 1: add, do not multiply", "step 1: use 280, not 82"]);
        // One mistake is that one alone: 9 and 4 are both there.
        assert_eq!(on("9 - 4", "4 - 9"), ["step 1: swap the numbers"]);
        assert_eq!(on("9 - 4", "5"), ["step 1: subtract"]);
        // The attempt's one step is the last of the reference, nearly; and stands where the first should be.
        assert_eq!(
            on("( 16 + 14 ) / 5", "16 / 5"),
            ["step 1: add", "step 1: add, do not divide", "step 1: use 14, not 5"]
        );
        // A right step that is there once too often is not to be mended.
        assert_eq!(on("3 * 3 + 3", "3 * 3 + 3 * 3"), ["step 2: use 3, not 3 * 3"]);
        assert_eq!(on("7.5", "14 + 16"), ["find another value"]);
        // A step that is right is not blamed for another that is missing.
        assert_eq!(on("( 9 - 5 ) * ( 9 - 4 )", "9 - 4"), ["step 1: subtract"]);
    }
}
