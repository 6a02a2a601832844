//! Reference knowledge that was looked up for the feedback.

use std::collections::HashMap;

use crate::aspect::Aspect;
use crate::digest::digest;
use crate::error::Result;
use crate::feedback::Feedback;
use crate::instruction::Instruction;
use crate::seam::{Judge, JudgeRequest};

/// Instructions as the feedback model sees them: with what was looked up as their reference. The instructions themselves
/// stay as they are, for the policy, checkers and training.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grounding {
    /// Identity of what was looked up where.
    digest: String,
    instructions: HashMap<String, Instruction>,
}

impl Grounding {
    /// Nothing was looked up yet; `digest` is the identity of the source and of how it is asked.
    #[must_use]
    pub fn new(digest: String) -> Self {
        Self { digest, instructions: HashMap::new() }
    }

    /// What was found for an instruction.
    pub fn add(&mut self, instruction: &Instruction, reference: String) {
        let grounded = Instruction { reference: Some(reference), ..instruction.clone() };
        self.instructions.insert(instruction.id.clone(), grounded);
    }

    /// The instruction with what was found for it; itself where nothing was.
    #[must_use]
    pub fn grounded<'a>(&'a self, instruction: &'a Instruction) -> &'a Instruction {
        self.instructions.get(&instruction.id).unwrap_or(instruction)
    }
}

/// A judge that is shown what was looked up.
pub struct GroundedJudge<'a> {
    /// Who judges.
    pub judge: Box<dyn Judge + 'a>,
    /// What it is shown.
    pub grounding: &'a Grounding,
}

impl Judge for GroundedJudge<'_> {
    fn digest(&self) -> String {
        digest(&("grounded", &self.grounding.digest, self.judge.digest()))
    }

    fn digest_on(&self, aspect: &Aspect) -> String {
        digest(&("grounded", &self.grounding.digest, self.judge.digest_on(aspect)))
    }

    fn judge(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()> {
        let grounded: Vec<JudgeRequest<'_>> = requests
            .iter()
            .map(|request| JudgeRequest {
                instruction: self.grounding.grounded(request.instruction),
                ..*request
            })
            .collect();
        self.judge.judge(&grounded, sink)
    }
}
