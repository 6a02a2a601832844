//! Demonstrations written by a program from problems with solutions: answering, refining under feedback, giving
//! feedback, and preferring what is right. They stand in for what the paper has a strong model write.

use rand::distr::{Bernoulli, Distribution};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rlrf_method::demonstration::Demonstration;
use rlrf_method::pairs::PreferenceGroup;
use rlrf_method::{
    Aspect, Error, Feedback, FeedbackRecord, Instruction, Message, ParseOutcome, Result, Templates,
};
use serde::{Deserialize, Serialize};

use crate::critique::{Critique, critique};
use crate::expression::Expression;
use crate::mistakes::{mistaken_attempt, neighbour, reordered};
use crate::preferences::preference;
use crate::problem::{Instance, WordProblem};

/// How many demonstrations are written of each kind, per problem.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DemonstrationConfig {
    /// Answers; the first has the problem's own numbers, the others new ones.
    pub answers: u32,
    /// Refinements of a mistaken attempt under its feedback.
    pub refinements: u32,
    /// Share of refinements whose feedback asks for something else than the problem's solution, one change away from the
    /// draft. The others can be answered from the question, on problems that the policy knows by heart; these are
    /// right only where the feedback is followed.
    pub counterfactual_share: f64,
    /// Feedback on an attempt, right or mistaken.
    pub feedback: u32,
    /// Share of right attempts among those that feedback is written on.
    pub right_share: f64,
    /// Right solutions that are preferred to mistaken attempts.
    pub preferences: u32,
    /// Mistaken attempts that each of them is preferred to.
    pub mistakes: u32,
}

impl Default for DemonstrationConfig {
    fn default() -> Self {
        Self {
            answers: 8,
            refinements: 8,
            counterfactual_share: 0.0,
            feedback: 8,
            right_share: 0.35,
            preferences: 8,
            mistakes: 2,
        }
    }
}

/// The sets.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Demonstrations {
    /// Question to expression.
    pub answers: Vec<Demonstration>,
    /// Question, draft and feedback to expression.
    pub refinements: Vec<Demonstration>,
    /// The judge's prompt to critique and level.
    pub feedback: Vec<Demonstration>,
    /// Pairs of answers; the instances of one problem share its id.
    pub preferences: Vec<PreferenceGroup>,
}

impl Demonstrations {
    /// Writes demonstrations for every problem; the same seed gives the same text.
    ///
    /// # Errors
    /// A share that is none, or a template that cannot be rendered.
    pub fn write(
        problems: &[WordProblem],
        config: &DemonstrationConfig,
        aspect: &Aspect,
        templates: &Templates,
        seed: u64,
    ) -> Result<Self> {
        let share = |field: &str, share: f64| {
            Bernoulli::new(share).map_err(|_| Error::Config {
                field: format!("demonstrations.per_problem.{field}"),
                value: share.to_string(),
                message: "must be 0 to 1".into(),
            })
        };
        let is_right = share("right_share", config.right_share)?;
        let is_counterfactual = share("counterfactual_share", config.counterfactual_share)?;
        let shapes: Vec<Expression> =
            problems.iter().filter_map(|p| p.original()).map(|i| i.solution).collect();
        let mut demonstrations = Self::default();
        for (index, problem) in (0u64..).zip(problems) {
            // One stream per problem: more demonstrations of one problem leave the others' as they are.
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(index);
            for copy in 0..config.answers {
                let instance = if copy == 0 { problem.original() } else { problem.vary(&mut rng) };
                demonstrations.answers.extend(instance.map(|instance| answer(&instance)));
            }
            for _ in 0..config.refinements {
                let Some(instance) = problem.vary(&mut rng) else { continue };
                let Some(draft) = mistaken_attempt(&instance, &shapes, &mut rng) else { continue };
                let instance = if is_counterfactual.sample(&mut rng) {
                    let Some(other) = counterfactual(&instance, &draft, &shapes, &mut rng) else { continue };
                    other
                } else {
                    instance
                };
                demonstrations.refinements.push(refinement(&instance, &draft, aspect, templates)?);
            }
            for _ in 0..config.feedback {
                let Some(instance) = problem.vary(&mut rng) else { continue };
                let attempt = if is_right.sample(&mut rng) {
                    Some(reordered(&instance.solution, &mut rng).to_string())
                } else {
                    mistaken_attempt(&instance, &shapes, &mut rng)
                };
                let Some(attempt) = attempt else { continue };
                demonstrations.feedback.push(feedback(&instance, &attempt, aspect, templates)?);
            }
            let id = format!("problem-{}", index + 1);
            for _ in 0..config.preferences {
                let Some(instance) = problem.vary(&mut rng) else { continue };
                let preferred = preference(&instance, &shapes, config.mistakes, &id, &mut rng);
                demonstrations.preferences.extend(preferred);
            }
        }
        Ok(demonstrations)
    }
}

fn instruction(instance: &Instance) -> Instruction {
    Instruction {
        id: String::new(),
        messages: vec![Message::user(instance.question.clone())],
        reference: Some(instance.solution.to_string()),
        answer: None,
    }
}

fn answer(instance: &Instance) -> Demonstration {
    Demonstration { prompt: instruction(instance).messages, completion: instance.solution.to_string() }
}

/// The same question with another solution, one change away from the draft, that a critique localises; none if none
/// was found.
fn counterfactual(
    instance: &Instance,
    draft: &str,
    shapes: &[Expression],
    rng: &mut impl Rng,
) -> Option<Instance> {
    let solution = neighbour(&Expression::parse(draft)?, instance, shapes, rng)?;
    (critique(&solution, draft).level == 2).then(|| Instance { solution, ..instance.clone() })
}

fn refinement(
    instance: &Instance,
    draft: &str,
    aspect: &Aspect,
    templates: &Templates,
) -> Result<Demonstration> {
    let Critique { text, level } = critique(&instance.solution, draft);
    let feedback = Feedback::from_level(&aspect.name, text, level, ParseOutcome::Parsed);
    let prompt = templates.refine(&instruction(instance), draft, &[feedback])?;
    Ok(Demonstration { prompt, completion: instance.solution.to_string() })
}

fn feedback(
    instance: &Instance,
    attempt: &str,
    aspect: &Aspect,
    templates: &Templates,
) -> Result<Demonstration> {
    let Critique { text, level } = critique(&instance.solution, attempt);
    let record = FeedbackRecord {
        instruction: instruction(instance),
        response: attempt.to_string(),
        aspect: aspect.clone(),
        critique: text,
        level,
    };
    record.demonstration(templates)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rlrf_method::aspect::DEFAULT_ASPECTS;
    use rlrf_method::template::{DEFAULT_FEEDBACK, DEFAULT_REFINE};

    fn write(config: &DemonstrationConfig, seed: u64) -> Result<Demonstrations> {
        let problems: Vec<WordProblem> = ["+ number0 number1", "* number0 number1", "- number0 number1"]
            .map(|equation| WordProblem {
                template: "number0 and number1".into(),
                numbers: vec!["40".into(), "15".into()],
                equation: equation.into(),
            })
            .to_vec();
        let aspects = Aspect::read_toml("aspects.toml", DEFAULT_ASPECTS).unwrap();
        let templates = Templates::new(DEFAULT_FEEDBACK, DEFAULT_REFINE).unwrap();
        Demonstrations::write(&problems, config, &aspects[0], &templates, seed)
    }

    #[test]
    fn the_sets_say_what_they_should() {
        let written = write(&DemonstrationConfig::default(), 1).unwrap();
        assert_eq!((written.answers.len(), written.refinements.len(), written.feedback.len()), (24, 24, 24));
        assert_eq!(written.preferences.len(), 24);
        assert!(written.preferences[..8].iter().all(|group| group.instruction == "problem-1"));
        assert_eq!(written.answers[0].prompt[0].content, "40 and 15");
        assert_eq!(written.answers[0].completion, "40 + 15");
        assert!(
            written.refinements.iter().all(|d| d.prompt.len() == 3 && d.completion != d.prompt[1].content)
        );
        assert!(written.feedback.iter().any(|d| d.completion.ends_with("; right\nLevel: 3")));
        assert!(written.feedback.iter().any(|d| d.completion.contains("; step 1: ")));
    }

    #[test]
    fn a_seed_fixes_the_text_and_problems_do_not_disturb_each_other() {
        let config = DemonstrationConfig::default();
        let written = |seed| write(&config, seed).unwrap();
        assert_eq!(written(1), written(1));
        assert_ne!(written(1), written(2));
    }

    #[test]
    fn counterfactual_refinements_follow_from_draft_and_feedback_alone() {
        let config = DemonstrationConfig { refinements: 40, counterfactual_share: 1.0, ..Default::default() };
        let written = write(&config, 1).unwrap().refinements;
        assert!(written.len() > 30, "{}", written.len());
        let value = |text: &str| Expression::parse(text).and_then(|expression| expression.value());
        let mut led_away = 0;
        for Demonstration { prompt, completion } in &written {
            let (draft, asked) = (&prompt[1].content, Expression::parse(completion).unwrap());
            let advice = critique(&asked, draft);
            assert_eq!(advice.level, 2, "{draft} for {completion}");
            assert!(prompt[2].content.contains(&advice.text), "{} for {}", prompt[2].content, advice.text);
            assert_ne!(value(draft), asked.value());
            let numbers: Vec<&str> = prompt[0].content.split(" and ").collect();
            let solutions = ["+", "*", "-"].map(|operator| value(&numbers.join(&format!(" {operator} "))));
            led_away += usize::from(!solutions.contains(&asked.value()));
        }
        assert!(led_away > written.len() / 2, "{led_away} of {}", written.len());
    }

    #[test]
    fn a_share_is_from_0_to_1() {
        for share in [-0.1, 1.5, f64::NAN, f64::INFINITY] {
            let right = DemonstrationConfig { right_share: share, ..Default::default() };
            let counterfactual = DemonstrationConfig { counterfactual_share: share, ..Default::default() };
            for (config, field) in [(right, "right_share"), (counterfactual, "counterfactual_share")] {
                let message = write(&config, 1).unwrap_err();
                assert!(message.to_string().contains(field), "{message}");
            }
        }
        let right_only = DemonstrationConfig { right_share: 1.0, ..Default::default() };
        assert!(write(&right_only, 1).unwrap().feedback.iter().all(|d| d.completion.ends_with("Level: 3")));
    }
}
