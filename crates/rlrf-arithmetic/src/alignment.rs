//! The steps of a reference beside those of an attempt: which step of the attempt stands for which of the reference.

use std::fmt;
use std::ptr;

use crate::advice::Fix;
use crate::expression::Expression;

/// A reference and an attempt, step by step. Borrows both.
///
/// Written out, every step of the reference has the attempt's words beside its own: `(1) 16 16 same, + - other, 14 14 same;
/// (2) (1) (1) same, / / same, 5 5 same`. An operand `(1)` is the value of step 1.
#[derive(Debug)]
pub(crate) struct Alignment<'a> {
    reference: Vec<&'a Expression>,
    attempt: Vec<&'a Expression>,
    /// For each step of the reference, the attempt's step in its place.
    places: Vec<Option<usize>>,
}

/// Whether a step of the attempt may stand for one of the reference.
type Fits = fn(&Expression, &Expression) -> bool;

/// Two words side by side: an operand or the operation.
struct Words {
    needed: String,
    found: String,
    same: bool,
}

impl<'a> Alignment<'a> {
    /// Gives every step of the reference at most one of the attempt, and each of these once: first the same calculation, then
    /// one that is a single mistake away (rather that of the same number), then that of the same number.
    pub(crate) fn new(reference: &'a Expression, attempt: &'a Expression) -> Self {
        let (reference, attempt) = (reference.steps(), attempt.steps());
        let mut places: Vec<Option<usize>> = vec![None; reference.len()];
        let same: Fits = Expression::same_calculation;
        let near: Fits = |step, other| Fix::between(step, other).is_some();
        let any: Fits = |_, _| true;
        for (fits, anywhere) in [(same, true), (near, false), (near, true), (any, false)] {
            for (number, step) in reference.iter().enumerate() {
                if places[number].is_some() {
                    continue;
                }
                let free = |place: &usize| !places.contains(&Some(*place)) && fits(step, attempt[*place]);
                places[number] = Some(number)
                    .filter(|place| *place < attempt.len() && free(place))
                    .or_else(|| (0..attempt.len()).find(|place| anywhere && free(place)));
            }
        }
        Self { reference, attempt, places }
    }

    /// The steps of the reference, counted from 1, with the attempt's steps in their places.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (usize, &'a Expression, Option<&'a Expression>)> {
        let found = self.places.iter().map(|place| place.map(|place| self.attempt[place]));
        (1..).zip(self.reference.iter().zip(found)).map(|(number, (step, found))| (number, *step, found))
    }

    /// Whether the attempt has the `number`-th step of the reference.
    pub(crate) fn has(&self, number: usize) -> bool {
        self.places[number - 1]
            .is_some_and(|place| self.reference[number - 1].same_calculation(self.attempt[place]))
    }

    /// Which step of the reference an operand of one of its steps is; none if it is a number.
    pub(crate) fn step_number(&self, operand: &Expression) -> Option<usize> {
        self.reference.iter().position(|step| ptr::eq(*step, operand)).map(|index| index + 1)
    }

    /// The attempt's steps that the reference does not have.
    pub(crate) fn mistaken(&self) -> impl Iterator<Item = &'a Expression> {
        (1..=self.attempt.len()).filter_map(|number| self.mistaken_at(number))
    }

    /// The attempt's `number`-th step, if there is one that the reference does not have.
    pub(crate) fn mistaken_at(&self, number: usize) -> Option<&'a Expression> {
        let is_right = |step: &&Expression| self.reference.iter().any(|other| other.same_calculation(step));
        self.attempt.get(number - 1).filter(|step| !is_right(step)).copied()
    }

    /// The attempt's steps that stand in no place, but for those that are operands of another such step.
    fn extra(&self) -> Vec<&'a Expression> {
        let extra: Vec<&Expression> = (0..self.attempt.len())
            .filter(|place| !self.places.contains(&Some(*place)))
            .map(|place| self.attempt[place])
            .collect();
        let is_within = |step: &Expression| {
            extra.iter().any(|other| match other {
                Expression::Operation(_, left, right) => {
                    [left, right].into_iter().any(|operand| ptr::eq(&raw const **operand, step))
                }
                Expression::Number(_) => false,
            })
        };
        extra.iter().copied().filter(|step| !is_within(step)).collect()
    }

    /// Whether the attempt has as many steps as the reference, and one mistake in one of them is all.
    pub(crate) fn is_one_mistake(&self) -> bool {
        if !self.extra().is_empty() || self.places.contains(&None) {
            return false;
        }
        let mut mistaken = self
            .steps()
            .filter_map(|(_, step, found)| Some(self.words(step, found?)))
            .filter(|words| words.iter().any(|word| !word.same));
        let differing = mistaken.next().map(|words| words.iter().filter(|word| !word.same).count());
        differing == Some(1) && mistaken.next().is_none()
    }

    /// Left operand, operation and right operand, the attempt's exchanged where that is no difference and fits better, or where
    /// the exchange is all that differs: the operation is `swapped` then.
    fn words(&self, step: &Expression, found: &Expression) -> [Words; 3] {
        let (Expression::Operation(operator, a, b), Expression::Operation(other, c, d)) = (step, found)
        else {
            unreachable!("a step is an operation");
        };
        let operand = |needed: &Expression, found: &Expression| {
            let (needed_label, found_label) = (self.needed(needed), self.found(found));
            let is_number = |operand: &Expression| matches!(operand, Expression::Number(_));
            if is_number(needed) && is_number(found) {
                let same = needed.same_calculation(found);
                return Words { needed: needed_label, found: found_label, same };
            }
            // Of two equal steps, either will do.
            if needed.same_calculation(found) {
                return Words { found: needed_label.clone(), needed: needed_label, same: true };
            }
            let same = needed_label == found_label;
            Words { needed: needed_label, found: found_label, same }
        };
        let straight = [operand(a, c), operand(b, d)];
        let crossed = [operand(a, d), operand(b, c)];
        let fit = |words: &[Words; 2]| words.iter().filter(|word| word.same).count();
        let may_cross = operator.is_commutative() || other.is_commutative();
        let is_swapped = !may_cross && operator == other && fit(&crossed) == 2 && fit(&straight) < 2;
        let is_crossed = is_swapped || (may_cross && fit(&crossed) > fit(&straight));
        let [left, right] = if is_crossed { crossed } else { straight };
        let found = if is_swapped { "swapped" } else { other.symbol() };
        let same = operator == other && !is_swapped;
        [left, Words { needed: operator.symbol().into(), found: found.into(), same }, right]
    }

    /// An operand of a reference's step: a number, or the step that it is.
    fn needed(&self, operand: &Expression) -> String {
        self.step_number(operand).map_or_else(|| operand.to_string(), |number| format!("({number})"))
    }

    /// An operand of an attempt's step: a number, the reference's step in whose place it stands, or the whole of it.
    fn found(&self, operand: &Expression) -> String {
        let Some(place) = self.attempt.iter().position(|step| ptr::eq(*step, operand)) else {
            return operand.to_string();
        };
        match self.places.iter().position(|at| *at == Some(place)) {
            Some(step) => format!("({})", step + 1),
            None => format!("( {operand} )"),
        }
    }
}

impl fmt::Display for Alignment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step, found) in self.steps() {
            if number > 1 {
                f.write_str("; ")?;
            }
            let Some(found) = found else {
                write!(f, "({number}) missing")?;
                continue;
            };
            write!(f, "({number})")?;
            for (index, Words { needed, found, same }) in self.words(step, found).into_iter().enumerate() {
                let separator = if index > 0 { "," } else { "" };
                write!(f, "{separator} {needed} {found} {}", if same { "same" } else { "other" })?;
            }
        }
        for step in self.extra() {
            write!(f, "; more {step}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_beside_their_like() {
        for (reference, attempt, text, one_mistake) in [
            ("80 / 20", "80 - 20", "(1) 80 80 same, / - other, 20 20 same", true),
            ("9 + 4", "4 + 9", "(1) 9 9 same, + + same, 4 4 same", false),
            ("9 + 4", "5 + 9", "(1) 9 9 same, + + same, 4 5 other", true),
            ("9 - 4", "4 - 9", "(1) 9 9 same, - swapped other, 4 4 same", true),
            ("9 - 4", "4 + 9", "(1) 9 9 same, - + other, 4 4 same", true),
            ("9 - 4", "7 - 5", "(1) 9 7 other, - - same, 4 5 other", false),
            ("9 - 4", "9.0 - 4", "(1) 9 9.0 same, - - same, 4 4 same", false),
            ("9 - 4", "7", "(1) missing", false),
            ("9 - 4", "9 - 4 + 2", "(1) 9 9 same, - - same, 4 4 same; more 9 - 4 + 2", false),
            (
                "( 16 + 14 ) / 5",
                "( 16 - 14 ) / 5",
                "(1) 16 16 same, + - other, 14 14 same; (2) (1) (1) same, / / same, 5 5 same",
                true,
            ),
            (
                "4 * 7 + 2",
                "2 + 7 * 4",
                "(1) 4 4 same, * * same, 7 7 same; (2) (1) (1) same, + + same, 2 2 same",
                false,
            ),
            ("( 16 + 14 ) / 5", "16 / 5", "(1) missing; (2) (1) 16 other, / / same, 5 5 same", false),
            (
                "16 / 5",
                "( 16 - 14 ) / 5",
                "(1) 16 ( 16 - 14 ) other, / / same, 5 5 same; more 16 - 14",
                false,
            ),
            ("9 - 4", "9 - 4 + 2 + 1", "(1) 9 9 same, - - same, 4 4 same; more 9 - 4 + 2 + 1", false),
            (
                "3 * 3 + 3 * 3 / 2",
                "3 * 3 / 2 + 3 * 3",
                "(1) 3 3 same, * * same, 3 3 same; (2) 3 3 same, * * same, 3 3 same; (3) (2) (2) same, / / same, 2 2 same; \
                 (4) (1) (1) same, + + same, (3) (3) same",
                false,
            ),
            (
                "( 1 + 2 ) * ( 9 - 4 )",
                "( 9 - 4 ) * ( 1 + 3 )",
                "(1) 1 1 same, + + same, 2 3 other; (2) 9 9 same, - - same, 4 4 same; (3) (1) (1) same, * * same, (2) (2) same",
                true,
            ),
        ] {
            let [reference, attempt] = [reference, attempt].map(|text| Expression::parse(text).unwrap());
            let alignment = Alignment::new(&reference, &attempt);
            assert_eq!(alignment.to_string(), text, "{attempt} for {reference}");
            assert_eq!(alignment.is_one_mistake(), one_mistake, "{attempt} for {reference}");
        }
    }
}
