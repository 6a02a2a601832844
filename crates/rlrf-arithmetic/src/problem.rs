//! A word problem as a template: the text with `numberN` in place of its numbers, and the equation over them.

use rand::Rng;
use rlrf_method::{Error, Result};
use serde::Deserialize;

use crate::expression::{Expression, Operator};
use crate::rational::Rational;

/// How often new numbers are drawn until they fit the problem.
const ATTEMPTS: usize = 40;

/// A problem whose numbers can be exchanged.
#[derive(Debug, Clone)]
pub struct WordProblem {
    /// The text with `number0`, `number1`, ... in place of numbers.
    pub template: String,
    /// The problem's own numbers.
    pub numbers: Vec<String>,
    /// The solution in prefix form over them.
    pub equation: String,
}

/// A problem with definite numbers.
#[derive(Debug, Clone)]
pub struct Instance {
    /// The question.
    pub question: String,
    /// Its numbers.
    pub numbers: Vec<String>,
    /// The solution.
    pub solution: Expression,
}

#[derive(Deserialize)]
struct Record {
    template: String,
    numbers: Vec<String>,
    equation: String,
}

impl WordProblem {
    /// Reads JSONL with `template`, `numbers` and `equation`; other fields are ignored.
    ///
    /// # Errors
    /// Names file and line: broken JSON, a missing field, an equation that cannot be read or has no value.
    pub fn read_jsonl(file: &str, bytes: &[u8]) -> Result<Vec<Self>> {
        let mut problems = Vec::new();
        for record in rlrf_method::instruction::records::<Record>(file, bytes)? {
            let (line, Record { template, numbers, equation }) = record?;
            let problem = Self { template, numbers, equation };
            let valued =
                problem.solution(&problem.numbers).is_some_and(|solution| solution.value().is_some());
            if !valued {
                return Err(Error::Record {
                    file: file.to_string(),
                    line,
                    message: format!(
                        "`equation` {:?} is not a prefix expression with a value over the {} `numbers`",
                        problem.equation,
                        problem.numbers.len()
                    ),
                });
            }
            problems.push(problem);
        }
        if problems.is_empty() {
            return Err(Error::Input { file: file.to_string(), message: "holds no problem".into() });
        }
        Ok(problems)
    }

    fn solution(&self, numbers: &[String]) -> Option<Expression> {
        Expression::parse_prefix(&self.equation, numbers)
    }

    /// The problem with the given numbers.
    fn instance(&self, numbers: Vec<String>) -> Option<Instance> {
        let solution = self.solution(&numbers)?;
        let mut question = self.template.clone();
        // From the last: `number1` is a prefix of `number10`.
        for (index, number) in numbers.iter().enumerate().rev() {
            question = question.replace(&format!("number{index}"), number);
        }
        Some(Instance { question, numbers, solution })
    }

    /// The problem with its own numbers.
    #[must_use]
    pub fn original(&self) -> Option<Instance> {
        self.instance(self.numbers.clone())
    }

    /// The problem with other numbers of the same kind: whole numbers of about as many digits, decimals with as many
    /// places; every step stays positive, and whole where it was whole, if some draw of a few has it so.
    #[must_use]
    pub fn vary(&self, rng: &mut impl Rng) -> Option<Instance> {
        let original = self.original()?;
        let mut fallback = None;
        for _ in 0..ATTEMPTS {
            let numbers: Vec<String> = self.numbers.iter().map(|number| vary_number(number, rng)).collect();
            let distinct = (0..numbers.len())
                .all(|i| (0..i).all(|j| (numbers[i] == numbers[j]) == (self.numbers[i] == self.numbers[j])));
            let Some(instance) = distinct.then(|| self.instance(numbers)).flatten() else { continue };
            match fit(&original.solution, &instance.solution) {
                Fit::Good => return Some(instance),
                Fit::Fraction => fallback = Some(instance),
                Fit::Bad => {}
            }
        }
        fallback.or(Some(original))
    }
}

enum Fit {
    Good,
    Fraction,
    Bad,
}

fn fit(original: &Expression, varied: &Expression) -> Fit {
    let mut fit = Fit::Good;
    for (before, after) in original.steps().into_iter().zip(varied.steps()) {
        let (Some(before), Some(after)) = (before.value(), after.value()) else { return Fit::Bad };
        if before.is_positive() && !after.is_positive() {
            return Fit::Bad;
        }
        if before.is_whole() && !after.is_whole() {
            fit = Fit::Fraction;
        }
    }
    fit
}

/// A number of the same kind. Small fractions and numbers with many places (thirds, sixths) stay as they are.
fn vary_number(number: &str, rng: &mut impl Rng) -> String {
    let (whole, places) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, fraction.len()),
        None => (number, 0),
    };
    if places > 2 || Rational::parse(number).is_none() || (places > 0 && whole == "0") {
        return number.to_string();
    }
    let digits = whole.len() as u32;
    let varied = match digits {
        1 => rng.random_range(2..=12),
        2 => rng.random_range(8..=99),
        _ => rng.random_range(10u64.pow(digits.min(12) - 1)..10u64.pow(digits.min(12))),
    };
    if places == 0 {
        return varied.to_string();
    }
    format!("{varied}.{:0places$}", rng.random_range(1..10u64.pow(places as u32)))
}

/// The number in the expression at the place of the `index`-th leaf, counted from the left.
pub(crate) fn leaves(expression: &Expression) -> Vec<&String> {
    match expression {
        Expression::Number(text) => vec![text],
        Expression::Operation(_, left, right) => [leaves(left), leaves(right)].concat(),
    }
}

/// The expression's shape with other leaves, taken in order from the left; none if there are too few.
pub(crate) fn with_leaves(
    expression: &Expression,
    new: &mut impl Iterator<Item = String>,
) -> Option<Expression> {
    match expression {
        Expression::Number(_) => new.next().map(Expression::Number),
        Expression::Operation(operator, left, right) => {
            let left = with_leaves(left, new)?;
            Some(Expression::operation(*operator, left, with_leaves(right, new)?))
        }
    }
}

/// The expression with the operator of its `index`-th step exchanged.
pub(crate) fn with_operator(expression: &Expression, index: usize, operator: Operator) -> Expression {
    fn walk(expression: &Expression, next: &mut usize, index: usize, operator: Operator) -> Expression {
        let Expression::Operation(own, left, right) = expression else { return expression.clone() };
        let left = walk(left, next, index, operator);
        let right = walk(right, next, index, operator);
        let here = *next == index;
        *next += 1;
        Expression::operation(if here { operator } else { *own }, left, right)
    }
    walk(expression, &mut 0, index, operator)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn problem() -> WordProblem {
        WordProblem {
            template: "Tom has number0 bags of number1 pears and eats number2 .".into(),
            numbers: vec!["12".into(), "8".into(), "5".into()],
            equation: "- * number0 number1 number2".into(),
        }
    }

    #[test]
    fn varied_numbers_stand_in_question_and_solution() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..200 {
            let instance = problem().vary(&mut rng).unwrap();
            for number in leaves(&instance.solution) {
                assert!(instance.question.contains(&format!(" {number} ")), "{instance:?}");
            }
            let value = instance.solution.value().unwrap();
            assert!(value.is_positive() && value.is_whole());
            assert!(!instance.question.contains("number"));
        }
    }

    #[test]
    fn a_bad_equation_names_its_line() {
        let text = b"{\"template\": \"t\", \"numbers\": [\"1\"], \"equation\": \"+ number0 number1\"}";
        assert!(
            WordProblem::read_jsonl("p.jsonl", text)
                .unwrap_err()
                .to_string()
                .starts_with("p.jsonl:1: `equation`")
        );
    }
}
