//! The exact checker: a response is right if its value equals the answer's.

use rlrf_method::seam::{Check, Checker};
use rlrf_method::{Error, Instruction, Result};

use crate::critique::{critique, names_error};
use crate::expression::Expression;

/// Evaluates the response as an arithmetic expression and compares values exactly. The instruction's `reference`
/// expression, where there is one, decides the critique; `answer` (a number or expression) decides the value.
#[derive(Debug, Clone, Copy, Default)]
pub struct ArithmeticChecker;

impl Checker for ArithmeticChecker {
    // To be raised with every change of what a check or a critique says: runs keep feedback under this name.
    fn digest(&self) -> String {
        "arithmetic/6".into()
    }

    fn check(&self, instruction: &Instruction, response: &str) -> Result<Check> {
        let Solution { answer, reference } = Solution::read(instruction)?;
        let attempt = Expression::parse(response.trim());
        let value = attempt.as_ref().and_then(Expression::value);
        let finding = critique(&reference, response.trim());
        Ok(Check {
            correct: value.is_some() && value == answer.value(),
            readable: attempt.is_some(),
            critique: finding.text,
            level: finding.level,
        })
    }

    fn names_error(&self, instruction: &Instruction, response: &str, critique: &str) -> Result<Option<bool>> {
        let Solution { reference, .. } = Solution::read(instruction)?;
        Ok(Some(names_error(&reference, response.trim(), critique)))
    }
}

/// What an instruction says to be right.
struct Solution {
    answer: Expression,
    reference: Expression,
}

impl Solution {
    fn read(instruction: &Instruction) -> Result<Self> {
        let read = |field: &str, text: &str| {
            let expression = Expression::parse(text).filter(|expression| expression.value().is_some());
            expression.ok_or_else(|| {
                Error::Backend(format!(
                    "instruction {}: `{field}` {text:?} is not a number or arithmetic expression",
                    instruction.id
                ))
            })
        };
        let answer = instruction.answer.as_deref().map(|text| read("answer", text)).transpose()?;
        let reference = instruction.reference.as_deref().map(|text| read("reference", text)).transpose()?;
        match (answer, reference) {
            (Some(answer), Some(reference)) => Ok(Self { answer, reference }),
            (Some(only), None) | (None, Some(only)) => Ok(Self { answer: only.clone(), reference: only }),
            (None, None) => Err(Error::Backend(format!(
                "instruction {}: the arithmetic checker needs an `answer` (or a `reference`)",
                instruction.id
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlrf_method::Message;

    #[test]
    fn right_wrong_and_unreadable() {
        let instruction = Instruction {
            id: "p".into(),
            messages: vec![Message::user("q")],
            reference: Some("( 16 + 14 ) / 4".into()),
            answer: Some("7.5".into()),
        };
        let check = |response| ArithmeticChecker.check(&instruction, response).unwrap();
        assert!(check("(14 + 16) / 4\n").correct);
        assert!(!check("14 + 16").correct && check("14 + 16").readable);
        assert!(!check("fourteen").correct && !check("fourteen").readable);
        let without = Instruction { reference: None, answer: None, ..instruction };
        assert!(ArithmeticChecker.check(&without, "1").unwrap_err().to_string().contains("instruction p"));
    }
}
