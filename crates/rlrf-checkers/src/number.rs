//! The number that a response ends with, against the instruction's answer.

use rlrf_arithmetic::Rational;
use rlrf_eval::word_problems::number::{exact, flexible, strict};
use rlrf_method::seam::{Check, Checker};
use rlrf_method::{Instruction, Result};

use crate::{answer, bad, check};

/// Reads numbers as the GSM8K evaluation does: after `####` where a response has that, else the last one; units, currencies
/// and separators are taken off. Values are compared exactly, as fractions.
pub(crate) struct NumberChecker {
    digest: String,
    tolerance: Rational,
}

impl NumberChecker {
    pub(crate) fn new(digest: String, tolerance: f64) -> Result<Self> {
        // The shortest decimal that is this number: 0.1 is a tenth.
        let exact = Rational::parse(&tolerance.to_string()).filter(|_| tolerance >= 0.0);
        let tolerance = exact.ok_or_else(|| bad("tolerance", tolerance, "must be a number, 0 or more"))?;
        Ok(Self { digest, tolerance })
    }

    fn is_near(&self, value: Rational, answer: Rational) -> bool {
        let over = value.minus(answer).and_then(Rational::magnitude).and_then(|d| d.minus(self.tolerance));
        value == answer || over.is_some_and(|over| !over.is_positive())
    }
}

impl Checker for NumberChecker {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn check(&self, instruction: &Instruction, response: &str) -> Result<Check> {
        let answer = answer(instruction, "a number", |text| exact(text).or_else(|| strict(text)))?;
        let Some(value) = strict(response).or_else(|| flexible(response)) else {
            let critique = "The response ends with no number that can be read for sure.".to_string();
            return Ok(check(1, false, critique));
        };
        if self.is_near(value, answer) {
            return Ok(check(3, true, format!("The final number, {value}, is right.")));
        }
        let direction = match value.minus(answer) {
            Some(difference) if difference.is_positive() => "too large",
            Some(_) => "too small",
            None => "wrong",
        };
        Ok(check(1, true, format!("The final number, {value}, is {direction}.")))
    }
}
