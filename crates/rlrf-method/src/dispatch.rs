//! Feedback on each aspect by whoever decides it.

use std::collections::BTreeMap;

use crate::aspect::Aspect;
use crate::error::{Error, Result};
use crate::feedback::Feedback;
use crate::seam::{Checker, Judge, JudgeRequest};

/// The checkers of those aspects that have one, by the aspect's name.
pub type AspectCheckers = BTreeMap<String, Box<dyn Checker>>;

/// A judge that leaves the aspects with a checker to it: no model is ever asked about them.
pub struct DispatchJudge<'a> {
    /// Judges all other aspects; there may be none.
    pub judge: Option<Box<dyn Judge + 'a>>,
    /// The checkers.
    pub checkers: &'a AspectCheckers,
}

impl Judge for DispatchJudge<'_> {
    fn digest(&self) -> String {
        self.judge.as_ref().map_or_else(|| "checkers".into(), |judge| judge.digest())
    }

    fn digest_on(&self, aspect: &Aspect) -> String {
        match (self.checkers.get(&aspect.name), &self.judge) {
            (Some(checker), _) => checker.digest(),
            (None, Some(judge)) => judge.digest_on(aspect),
            (None, None) => self.digest(),
        }
    }

    fn judge(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()> {
        let mut left: Vec<JudgeRequest<'_>> = Vec::new();
        let mut places: Vec<usize> = Vec::new();
        for (place, request) in requests.iter().enumerate() {
            match self.checkers.get(&request.aspect.name) {
                Some(checker) => {
                    let check = checker.check(request.instruction, request.response)?;
                    sink(place, check.into_feedback(&request.aspect.name))?;
                }
                None => {
                    left.push(*request);
                    places.push(place);
                }
            }
        }
        let Some(first) = left.first() else { return Ok(()) };
        let Some(judge) = &mut self.judge else {
            return Err(Error::Backend(format!(
                "nobody judges {}: give the aspect a checker, or name a feedback model",
                first.aspect.name
            )));
        };
        judge.judge(&left, &mut |request, feedback| sink(places[request], feedback))
    }
}
