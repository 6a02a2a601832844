//! Mistakes such as a policy makes: attempts to learn criticising and refining from.
//!
//! A small policy copies badly, and drawn at random it makes several mistakes at once as often as one.

use rand::Rng;
use rand::seq::IndexedRandom;

use crate::expression::{Expression, Operator};
use crate::problem::{Instance, leaves, with_leaves, with_operator};

/// An attempt with one to four mistakes, in any form that the solution may have, whose value differs from the solution's;
/// none if none was found.
///
/// `shapes` are solutions of other problems: a policy that misreads a problem answers another kind of it.
#[must_use]
pub fn mistaken_attempt(instance: &Instance, shapes: &[Expression], rng: &mut impl Rng) -> Option<String> {
    for _ in 0..20 {
        let mut attempt = mistake(&reordered(&instance.solution, rng), instance, shapes, rng);
        for _ in 0..3 {
            if rng.random_bool(0.45) {
                attempt = mistake(&attempt, instance, shapes, rng);
            }
        }
        let text =
            if rng.random_bool(0.05) { garble(&attempt.to_string(), rng) } else { attempt.to_string() };
        let value = Expression::parse(&text).and_then(|expression| expression.value());
        if value.is_none() || value != instance.solution.value() {
            return Some(text);
        }
    }
    None
}

/// An expression of another value that is one mistake away from `expression`; none if none was found.
pub(crate) fn neighbour(
    expression: &Expression,
    instance: &Instance,
    shapes: &[Expression],
    rng: &mut impl Rng,
) -> Option<Expression> {
    let differs = |other: &Expression| other.value().is_some() && other.value() != expression.value();
    (0..20).map(|_| mistake(expression, instance, shapes, rng)).find(differs)
}

/// The same calculation in another form: operands of sums and products exchanged, and of two operations in a row the
/// second done first.
pub(crate) fn reordered(expression: &Expression, rng: &mut impl Rng) -> Expression {
    let Expression::Operation(operator, left, right) = expression else { return expression.clone() };
    let (left, right) = (reordered(left, rng), reordered(right, rng));
    if let (Expression::Operation(first, a, b), true) = (&left, rng.random_bool(0.25))
        && first.is_sum() == operator.is_sum()
    {
        // ( a + b ) - c = ( a - c ) + b, and the same of products.
        let inner = Expression::operation(*operator, (**a).clone(), right);
        return Expression::operation(*first, inner, (**b).clone());
    }
    if operator.is_commutative() && rng.random_bool(0.25) {
        return Expression::operation(*operator, right, left);
    }
    Expression::operation(*operator, left, right)
}

fn mistake(
    expression: &Expression,
    instance: &Instance,
    shapes: &[Expression],
    rng: &mut impl Rng,
) -> Expression {
    let steps = expression.steps().len();
    match rng.random_range(0..100) {
        // Another operation in one step.
        0..18 if steps > 0 => {
            let index = rng.random_range(0..steps);
            let operator = Operator::ALL[rng.random_range(0..4)];
            with_operator(expression, index, operator)
        }
        // Two numbers exchanged.
        18..32 if steps > 0 => {
            let mut numbers: Vec<String> = leaves(expression).into_iter().cloned().collect();
            let first = rng.random_range(0..numbers.len());
            let second = (first + rng.random_range(1..numbers.len())) % numbers.len();
            numbers.swap(first, second);
            replace(expression, numbers)
        }
        // A number of the problem in the wrong place.
        32..47 => {
            let mut numbers: Vec<String> = leaves(expression).into_iter().cloned().collect();
            let place = rng.random_range(0..numbers.len());
            if let Some(other) = instance.numbers.choose(rng) {
                numbers[place].clone_from(other);
            }
            replace(expression, numbers)
        }
        // A step left out.
        47..59 if steps > 1 => match expression {
            Expression::Operation(_, left, right) => {
                if left.steps().len() >= right.steps().len() {
                    (**left).clone()
                } else {
                    (**right).clone()
                }
            }
            Expression::Number(_) => expression.clone(),
        },
        // A step too many.
        47..59 => match instance.numbers.choose(rng) {
            Some(number) => {
                let operator = Operator::ALL[rng.random_range(0..4)];
                Expression::operation(operator, expression.clone(), Expression::Number(number.clone()))
            }
            None => expression.clone(),
        },
        // A number copied wrongly.
        59..88 => {
            let mut numbers: Vec<String> = leaves(expression).into_iter().cloned().collect();
            let place = rng.random_range(0..numbers.len());
            numbers[place] = miscopy(&numbers[place], rng);
            replace(expression, numbers)
        }
        // The kind of solution that another problem has.
        _ => {
            let mut numbers: Vec<String> = Vec::new();
            for _ in 0..8 {
                numbers.extend(instance.numbers.choose(rng).cloned());
            }
            // Mostly in the order of the problem, each number once.
            if rng.random_bool(0.7) {
                numbers.splice(0..0, instance.numbers.iter().cloned());
            }
            shapes
                .choose(rng)
                .and_then(|shape| with_leaves(shape, &mut numbers.into_iter()))
                .unwrap_or_else(|| expression.clone())
        }
    }
}

fn replace(expression: &Expression, numbers: Vec<String>) -> Expression {
    with_leaves(expression, &mut numbers.into_iter()).unwrap_or_else(|| expression.clone())
}

/// A digit lost, doubled, exchanged with another or replaced.
fn miscopy(number: &str, rng: &mut impl Rng) -> String {
    let mut digits: Vec<char> = number.chars().collect();
    let place = rng.random_range(0..digits.len());
    match rng.random_range(0..6) {
        0 if digits.len() > 1 => drop(digits.remove(place)),
        1 if digits[place] != '.' => digits.insert(place, digits[place]),
        2 | 3 if digits.len() > 1 => {
            let other = (place + rng.random_range(1..digits.len())) % digits.len();
            digits.swap(place, other);
        }
        // No digit but the first is copied.
        4 if digits.len() > 1 => {
            for digit in digits[1..].iter_mut().filter(|digit| **digit != '.') {
                *digit = char::from(b'0' + rng.random_range(0..10u8));
            }
        }
        _ if digits[place] != '.' => digits[place] = char::from(b'0' + rng.random_range(1..10u8)),
        _ => {}
    }
    let text: String = digits.into_iter().collect();
    if text.trim_matches('.').is_empty() { number.to_string() } else { text }
}

/// Loses one of the words, says one twice, or sets a bracket that has no other.
fn garble(text: &str, rng: &mut impl Rng) -> String {
    let mut words: Vec<&str> = text.split(' ').collect();
    let place = rng.random_range(0..words.len());
    match rng.random_range(0..4) {
        0 => drop(words.remove(place)),
        1 => words.insert(place, words[place]),
        2 => words.insert(place, "("),
        _ => words.insert(place + 1, ")"),
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::WordProblem;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn another_form_has_the_same_value() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for text in ["8 - 2 - 1", "9 / 3 * 2", "( 1 + 2 ) * 3 / 4", "1 + 2 - 3 + 4", "7 - ( 2 + 3 )"] {
            let expression = Expression::parse(text).unwrap();
            let forms: std::collections::HashSet<String> = (0..100)
                .map(|_| {
                    let form = reordered(&expression, &mut rng);
                    assert_eq!(form.value(), expression.value(), "{form} for {text}");
                    form.to_string()
                })
                .collect();
            assert!(forms.len() > 1, "{text}");
        }
    }

    #[test]
    fn a_mistaken_attempt_is_never_right() {
        let problem = WordProblem {
            template: "number0 and number1 and number2".into(),
            numbers: vec!["16".into(), "14".into(), "5".into()],
            equation: "/ + number0 number1 number2".into(),
        };
        let shapes = [Expression::parse("1 * 2 - 3").unwrap(), Expression::parse("1 + 2").unwrap()];
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let instance = problem.original().unwrap();
        let mut distinct = std::collections::HashSet::new();
        for _ in 0..500 {
            let attempt = mistaken_attempt(&instance, &shapes, &mut rng).unwrap();
            let value = Expression::parse(&attempt).and_then(|e| e.value());
            assert_ne!(value, instance.solution.value(), "{attempt}");
            distinct.insert(attempt);
        }
        assert!(distinct.len() > 50, "{}", distinct.len());
    }
}
