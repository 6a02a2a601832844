//! The search for candidates: sampling, rounds of refinement, and the split of the budget between them.

use crate::config::{SearchConfig, Split};
use crate::digest::stream;
use crate::error::Result;
use crate::iteration::{CandidateGroup, Draw, Iteration};
use crate::score::CandidateKind;
use crate::seam::{Judge, Policy};
use crate::search::allocate;
use crate::select::{promising, refining_feedback};

impl Iteration<'_> {
    /// Stages 1 to 7: all candidates of all instructions, judged and scored.
    ///
    /// `judge` may be left out where nothing needs feedback ([`MethodConfig::needs_feedback`](crate::config::MethodConfig::needs_feedback)).
    ///
    /// # Errors
    /// A failure of a model or the store, or the user's interruption; what is finished is committed.
    pub fn explore(
        &mut self,
        policy: &mut dyn Policy,
        mut judge: Option<&mut (dyn Judge + '_)>,
    ) -> Result<Vec<CandidateGroup>> {
        let mut groups = self.sample(policy)?;
        self.judge(&mut judge, &mut groups)?;
        match self.config.search.split {
            Split::Fixed => self.refine_in_rounds(policy, &mut judge, &mut groups)?,
            Split::Adaptive => self.search(policy, &mut judge, &mut groups)?,
        }
        Ok(groups)
    }

    fn judge(
        &mut self,
        judge: &mut Option<&mut (dyn Judge + '_)>,
        groups: &mut [CandidateGroup],
    ) -> Result<()> {
        match judge {
            Some(judge) => self.feedback(*judge, groups),
            None => self.score(groups),
        }
    }

    fn refine_in_rounds(
        &mut self,
        policy: &mut dyn Policy,
        judge: &mut Option<&mut (dyn Judge + '_)>,
        groups: &mut [CandidateGroup],
    ) -> Result<()> {
        let rounds = self.config.refine.rounds.min(self.config.refine.m);
        for round in 0..rounds {
            let quota = part(self.config.refine.m, rounds, round);
            let quotas = vec![quota; groups.len()];
            self.refine_by(policy, groups, &quotas)?;
            self.judge(judge, groups)?;
        }
        Ok(())
    }

    /// The adaptive split: the m candidates beside the n samples are given out step by step.
    fn search(
        &mut self,
        policy: &mut dyn Policy,
        judge: &mut Option<&mut (dyn Judge + '_)>,
        groups: &mut [CandidateGroup],
    ) -> Result<()> {
        let SearchConfig { step, .. } = self.config.search;
        let mut left = u64::from(self.config.refine.m);
        while left > 0 {
            let now = left.min(u64::from(step));
            left -= now;
            let refinable: Vec<bool> = groups
                .iter()
                .map(|group| {
                    !group.refinement_too_long
                        && !self.is_left_alone(group)
                        && group.candidates.iter().any(|c| c.is_improvable())
                })
                .collect();
            let budget = now * groups.len() as u64;
            let most = u32::try_from(3 * now).unwrap_or(u32::MAX);
            let shares = allocate(groups, &refinable, budget, most);
            let sampled: Vec<u32> = shares.iter().map(|share| share.sampled).collect();
            let refined: Vec<u32> = shares.iter().map(|share| share.refined).collect();
            // Drafts are chosen among what is judged: refine before the new samples come in.
            self.refine_by(policy, groups, &refined)?;
            self.sample_by(policy, groups, &sampled)?;
            self.judge(judge, groups)?;
        }
        Ok(())
    }

    /// Whether `refine.stop_when_perfect` forbids further refinements.
    fn is_left_alone(&self, group: &CandidateGroup) -> bool {
        self.config.refine.stop_when_perfect && group.candidates.iter().any(|c| c.is_perfect())
    }

    /// Stage 1: `n` candidates for each instruction.
    ///
    /// # Errors
    /// A failure of model or store, or the user's interruption; finished candidates are committed.
    pub fn sample(&mut self, policy: &mut dyn Policy) -> Result<Vec<CandidateGroup>> {
        let mut groups: Vec<CandidateGroup> =
            (0..self.instructions.len()).map(|index| CandidateGroup::new(index, Vec::new())).collect();
        for (group, choice) in groups.iter_mut().zip(&self.choices) {
            group.choice = Some(choice.clone());
        }
        let quotas = vec![self.config.sample.n; groups.len()];
        self.sample_by(policy, &mut groups, &quotas)?;
        Ok(groups)
    }

    /// So many more samples of each group.
    fn sample_by(
        &mut self,
        policy: &mut dyn Policy,
        groups: &mut [CandidateGroup],
        quotas: &[u32],
    ) -> Result<()> {
        let purpose = format!("sample/{}", self.number);
        let mut draws = Vec::new();
        for (index, (group, &quota)) in groups.iter().zip(quotas).enumerate() {
            let instruction = &self.instructions[group.instruction];
            let (first, before) = (group.size(), group.count(CandidateKind::Sampled));
            for offset in 0..quota {
                draws.push(Draw {
                    group: index,
                    position: first + offset,
                    kind: CandidateKind::Sampled,
                    draft: None,
                    messages: instruction.messages.clone(),
                    stream: stream(self.config.seed, &purpose, &instruction.id, before + offset),
                });
            }
        }
        self.draw("sample", policy, &self.config.sample.sampling, draws, groups)
    }

    /// Stages 5 and 6: selects the promising candidates of each group and refines them `m` times, all together, under their
    /// feedback. One that does not fit the policy's context together with its feedback is left as it is, and counted.
    ///
    /// # Errors
    /// As [`Iteration::sample`].
    pub fn refine(&mut self, policy: &mut dyn Policy, groups: &mut [CandidateGroup]) -> Result<()> {
        let quotas = vec![self.config.refine.m; groups.len()];
        self.refine_by(policy, groups, &quotas)
    }

    fn refine_by(
        &mut self,
        policy: &mut dyn Policy,
        groups: &mut [CandidateGroup],
        quotas: &[u32],
    ) -> Result<()> {
        let purpose = format!("refine/{}", self.number);
        let mut draws = Vec::new();
        for (index, (group, &quota)) in groups.iter_mut().zip(quotas).enumerate() {
            let instruction = &self.instructions[group.instruction];
            if self.is_left_alone(group) {
                continue;
            }
            let (mut position, mut refined) = (group.size(), group.count(CandidateKind::Refined));
            let pick = stream(self.config.seed, &format!("select/{}", self.number), &instruction.id, refined);
            let mut drafts = promising(&group.candidates, &self.config.select, &group.promising, pick);
            // A draft without refinements would read as one that was refined in vain.
            drafts.truncate(if self.config.refine.m == 0 { usize::MAX } else { quota as usize });
            let parts = u32::try_from(drafts.len()).unwrap_or(u32::MAX);
            for (number, draft) in (0..parts).zip(drafts) {
                if !group.promising.contains(&draft) {
                    group.promising.push(draft);
                }
                let candidate = &group.candidates[draft];
                let feedback = refining_feedback(&candidate.feedback, self.config.refine.feedback);
                let messages = self.templates.refine(instruction, &candidate.generated.text, &feedback)?;
                let share = part(quota, parts, number);
                if share > 0 && !policy.fits(&messages)? {
                    group.refinement_too_long = true;
                    continue;
                }
                for _ in 0..share {
                    draws.push(Draw {
                        group: index,
                        position,
                        kind: CandidateKind::Refined,
                        draft: Some(draft),
                        messages: messages.clone(),
                        stream: stream(self.config.seed, &purpose, &instruction.id, refined),
                    });
                    position += 1;
                    refined += 1;
                }
            }
        }
        self.draw("refine", policy, &self.config.refine.sampling, draws, groups)
    }
}

/// The `number`th of `parts` nearly equal parts of `whole`; the first ones get what is left over.
fn part(whole: u32, parts: u32, number: u32) -> u32 {
    whole / parts + u32::from(number < whole % parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_add_up() {
        assert_eq!((0..4).map(|number| part(15, 4, number)).collect::<Vec<_>>(), [4, 4, 4, 3]);
        assert_eq!((0..3).map(|number| part(2, 3, number)).collect::<Vec<_>>(), [1, 1, 0]);
    }
}
