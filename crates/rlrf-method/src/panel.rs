//! Several judges whose feedback is averaged.

use crate::digest::digest;
use crate::error::{Error, Result};
use crate::feedback::{Feedback, LEVELS, ParseOutcome};
use crate::seam::{Judge, JudgeRequest};

/// So many judgements are asked of one member after another: what an interruption can cost at most of a member that keeps
/// nothing by itself.
const ROUND: usize = 256;

/// Judges that are all asked about everything.
pub struct Panel<'a> {
    members: Vec<Box<dyn Judge + 'a>>,
}

impl<'a> Panel<'a> {
    /// The panel of these members, at least one.
    #[must_use]
    pub fn new(members: Vec<Box<dyn Judge + 'a>>) -> Self {
        Self { members }
    }
}

impl Judge for Panel<'_> {
    fn digest(&self) -> String {
        let members: Vec<String> = self.members.iter().map(|member| member.digest()).collect();
        digest(&("panel", members))
    }

    fn judge(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()> {
        for (round, requests) in requests.chunks(ROUND).enumerate() {
            let mut said: Vec<Vec<Feedback>> = vec![Vec::with_capacity(self.members.len()); requests.len()];
            for (number, member) in (1..).zip(&mut self.members) {
                member.judge(requests, &mut |request, feedback| {
                    said[request].push(feedback);
                    Ok(())
                })?;
                if said.iter().any(|said| said.len() != number) {
                    return Err(Error::Backend("feedback: a member's judgement did not come back".into()));
                }
            }
            // Whoever wants to stop is given what the members have finished, all the same.
            let mut taken = Ok(());
            for (request, said) in said.into_iter().enumerate() {
                let given = sink(round * ROUND + request, average(&requests[request].aspect.name, said));
                taken = taken.and(given);
            }
            taken?;
        }
        Ok(())
    }
}

/// The mean of the members' distributions over the levels, a level alone counting as certain. Members that failed are left
/// out. The critique is that of the member with the lowest score, the first of equals: refinement needs to know what is wrong.
#[must_use]
pub fn average(aspect: &str, members: Vec<Feedback>) -> Feedback {
    let reasked = members.iter().any(|member| member.reasked);
    let scored: Vec<(f64, &Feedback)> =
        members.iter().filter_map(|member| Some((member.aspect_score()?, member))).collect();
    let Some((_, lowest)) = scored.iter().min_by(|a, b| a.0.total_cmp(&b.0)) else {
        let reason = format!("none of the panel's {} members could be read", members.len());
        return Feedback { reasked, members, ..Feedback::failed(aspect, reason) };
    };
    let mut mean = [0.0; LEVELS];
    for (_, member) in &scored {
        for (level, sum) in (1u8..).zip(&mut mean) {
            let certain = f64::from(u8::from(member.level == Some(level)));
            let probability = member.distribution.map_or(certain, |told| told[usize::from(level) - 1]);
            *sum += probability / scored.len() as f64;
        }
    }
    let plain = members.iter().all(|member| member.parse == ParseOutcome::Parsed);
    let parse = if plain { ParseOutcome::Parsed } else { ParseOutcome::Repaired };
    let feedback = Feedback::from_distribution(aspect, lowest.critique.clone(), mean, parse);
    Feedback { reasked, members, ..feedback }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Instruction;
    use crate::aspect::{Aspect, DEFAULT_ASPECTS};

    fn told(critique: &str, distribution: [f64; LEVELS]) -> Feedback {
        Feedback::from_distribution("a", critique.into(), distribution, ParseOutcome::Parsed)
    }

    fn level(critique: &str, level: u8) -> Feedback {
        Feedback::from_level("a", critique.into(), level, ParseOutcome::Parsed)
    }

    #[test]
    fn the_mean_of_distributions_and_the_lowest_critique() {
        let members = vec![told("good", [0.1, 0.2, 0.7]), level("bad", 1), told("fair", [0.0, 0.6, 0.4])];
        let mean = average("a", members.clone());
        let expected = [1.1 / 3.0, 0.8 / 3.0, 1.1 / 3.0];
        for (found, expected) in mean.distribution.unwrap().into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12);
        }
        assert!((mean.aspect_score().unwrap() - (2.6 + 1.0 + 2.4) / 3.0).abs() < 1e-12);
        assert_eq!((mean.critique.as_str(), &mean.parse), ("bad", &ParseOutcome::Parsed));
        assert_eq!(mean.members, members);
    }

    /// Knows what to say beforehand.
    struct Member;

    impl Judge for Member {
        fn digest(&self) -> String {
            "member".into()
        }
        fn judge(
            &mut self,
            requests: &[JudgeRequest<'_>],
            sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
        ) -> Result<()> {
            (0..requests.len()).try_for_each(|request| sink(request, level("fine", 3)))
        }
    }

    #[test]
    fn who_wants_to_stop_is_given_what_is_finished() {
        let aspect = &Aspect::read_toml("aspects", DEFAULT_ASPECTS).unwrap()[0];
        let instruction =
            &Instruction { id: "i".into(), messages: Vec::new(), reference: None, answer: None };
        let request = JudgeRequest { instruction, response: "r", aspect };
        let requests = vec![request; 2 * ROUND];
        let mut given = 0;
        let stopped = Panel::new(vec![Box::new(Member), Box::new(Member)]).judge(&requests, &mut |_, _| {
            given += 1;
            Err(Error::Interrupted)
        });
        assert!(matches!(stopped, Err(Error::Interrupted)));
        assert_eq!(given, ROUND);
    }

    #[test]
    fn members_that_failed_are_left_out_and_kept() {
        let failed = Feedback::failed("a", "raw".into());
        let mean = average("a", vec![failed.clone(), level("fine", 3), level("so-so", 2)]);
        assert_eq!((mean.aspect_score(), mean.critique.as_str()), (Some(2.5), "so-so"));
        assert_eq!((mean.parse, mean.members[0].clone()), (ParseOutcome::Repaired, failed.clone()));
        let none = average("a", vec![failed.clone(), failed]);
        assert!(none.level.is_none() && none.distribution.is_none() && none.members.len() == 2);
        assert!(matches!(none.parse, ParseOutcome::Failed(_)));
    }
}
