//! The length of a response.

use rlrf_method::checker_config::LengthUnit;
use rlrf_method::seam::{Check, Checker};
use rlrf_method::{Instruction, Result};
use rlrf_retrieval::sentences;

use crate::{bad, check};

/// Level 2 misses a bound by no more than the share `near` of it.
pub(crate) struct LengthChecker {
    digest: String,
    unit: LengthUnit,
    min: usize,
    max: usize,
    near: f64,
}

impl LengthChecker {
    pub(crate) fn new(
        digest: String,
        unit: LengthUnit,
        (min, max): (Option<usize>, Option<usize>),
        near: f64,
    ) -> Result<Self> {
        if min.is_none() && max.is_none() {
            return Err(bad("min", "(none)", "give a bound here, or in `max`"));
        }
        let (least, most) = (min.unwrap_or(0), max.unwrap_or(usize::MAX));
        if most == 0 || least > most {
            return Err(bad("max", most, format!("must be at least 1, and not below `min` = {least}")));
        }
        if !(0.0..=1.0).contains(&near) {
            return Err(bad("near", near, "must be 0 to 1"));
        }
        Ok(Self { digest, unit, min: least, max: most, near })
    }

    fn length(&self, response: &str) -> usize {
        let response = response.trim();
        match self.unit {
            LengthUnit::Words => response.split_whitespace().count(),
            LengthUnit::Characters => response.chars().count(),
            LengthUnit::Sentences => {
                sentences(response).iter().filter(|text| !text.trim().is_empty()).count()
            }
        }
    }
}

impl Checker for LengthChecker {
    fn digest(&self) -> String {
        self.digest.clone()
    }

    fn check(&self, _: &Instruction, response: &str) -> Result<Check> {
        let (length, unit) = (self.length(response), self.unit.name());
        let (bound, word) = match length {
            short if short < self.min => (self.min, "least"),
            long if long > self.max => (self.max, "most"),
            _ => return Ok(check(3, true, format!("The length, {length} {unit}, is as asked for."))),
        };
        let near = length.abs_diff(bound) as f64 <= self.near * bound as f64;
        let critique = format!("The response has {length} {unit}; it must have at {word} {bound}.");
        Ok(check(if near { 2 } else { 1 }, true, critique))
    }
}
