//! Preference pairs written by a program: a right solution against mistaken attempts. A reward model learns from them, or
//! is measured on them.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rlrf_method::pairs::{PreferenceGroup, TrainedCandidate};
use rlrf_method::{Error, Instruction, Message, Result};

use crate::demonstrations::reordered;
use crate::expression::Expression;
use crate::mistakes::mistaken_attempt;
use crate::problem::Instance;
use crate::rational::Rational;

/// The right solution of an instance, perhaps with operands exchanged, preferred to as many as `mistakes` mistaken attempts
/// of it, all different; none if no mistake was found. `instruction` is the id of the group.
pub(crate) fn preference(
    instance: &Instance,
    shapes: &[Expression],
    mistakes: u32,
    instruction: &str,
    rng: &mut impl Rng,
) -> Option<PreferenceGroup> {
    let mut texts = vec![reordered(&instance.solution, rng).to_string()];
    for _ in 0..mistakes {
        if let Some(attempt) = mistaken_attempt(instance, shapes, rng)
            && !texts.contains(&attempt)
        {
            texts.push(attempt);
        }
    }
    let pairs: Vec<(usize, usize)> = (1..texts.len()).map(|rejected| (0, rejected)).collect();
    (!pairs.is_empty()).then(|| PreferenceGroup {
        instruction: instruction.to_string(),
        messages: vec![Message::user(instance.question.clone())],
        candidates: texts
            .into_iter()
            .map(|text| TrainedCandidate { text, tokens: Vec::new(), complete: true })
            .collect(),
        margins: vec![None; pairs.len()],
        pairs,
    })
}

/// Pairs for problems with their own numbers: the `reference` of each instruction, an arithmetic expression, against
/// `mistakes` mistaken attempts. An attempt may have the kind of solution that another of the problems has. The same seed
/// gives the same pairs.
///
/// # Errors
/// An instruction without a reference, or with one that is no arithmetic expression.
pub fn preferences(instructions: &[Instruction], mistakes: u32, seed: u64) -> Result<Vec<PreferenceGroup>> {
    let instances = instructions.iter().map(instance).collect::<Result<Vec<_>>>()?;
    let shapes: Vec<Expression> = instances.iter().map(|instance| instance.solution.clone()).collect();
    let mut groups = Vec::with_capacity(instances.len());
    for (index, (instruction, instance)) in (0u64..).zip(instructions.iter().zip(&instances)) {
        // One stream per problem: the pairs of one do not depend on the others'.
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(index);
        let group = preference(instance, &shapes, mistakes, &instruction.id, &mut rng);
        groups.extend(group.map(|group| PreferenceGroup { messages: instruction.messages.clone(), ..group }));
    }
    Ok(groups)
}

fn instance(instruction: &Instruction) -> Result<Instance> {
    let reference = instruction.reference.as_deref();
    let solution = reference.and_then(Expression::parse).filter(|solution| solution.value().is_some());
    let Some(solution) = solution else {
        return Err(Error::Backend(format!(
            "instruction {}: pairs are written from a `reference` that is an arithmetic expression, found {reference:?}",
            instruction.id
        )));
    };
    let question = instruction.text();
    let mut numbers: Vec<String> = Vec::new();
    for word in question.split_whitespace() {
        let number = word.trim_matches(|c: char| !c.is_ascii_digit());
        if Rational::parse(number).is_some() && !numbers.iter().any(|known| known == number) {
            numbers.push(number.to_string());
        }
    }
    Ok(Instance { question, numbers, solution })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instruction(id: &str, prompt: &str, reference: Option<&str>) -> Instruction {
        let reference = reference.map(String::from);
        Instruction { id: id.into(), messages: vec![Message::user(prompt)], reference, answer: None }
    }

    #[test]
    fn the_chosen_is_right_and_every_rejected_is_not() {
        let instructions = [
            instruction("a", "Tom has 12 bags of 8 pears, and eats 5.", Some("12 * 8 - 5")),
            instruction("b", "$ 4.50 for 3 of them?", Some("4.50 * 3")),
        ];
        let value = |text: &str| Expression::parse(text).and_then(|expression| expression.value());
        let mut written = 0;
        for seed in 0..40 {
            let groups = preferences(&instructions, 3, seed).unwrap();
            assert_eq!(groups, preferences(&instructions, 3, seed).unwrap());
            for (group, right) in groups.iter().zip([value("91"), value("13.5")]) {
                assert_eq!(value(&group.candidates[0].text), right);
                assert!(group.pairs.iter().all(
                    |&(chosen, rejected)| chosen == 0 && value(&group.candidates[rejected].text) != right
                ));
                written += group.pairs.len();
            }
        }
        assert!(written > 160, "{written}");
    }

    #[test]
    fn a_reference_that_is_no_expression_is_named() {
        for reference in [None, Some("twelve")] {
            let bad = [instruction("p-7", "q", reference)];
            let message = preferences(&bad, 1, 0).unwrap_err().to_string();
            assert!(message.contains("instruction p-7: pairs are written from a `reference`"), "{message}");
        }
    }
}
