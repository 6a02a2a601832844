//! Choice of aspects: the feedback model names those that matter most for an instruction, in order, each with a short
//! reason, as FLASK (Ye et al., arXiv 2307.10928) has it done.
//!
//! A model that tells probabilities is asked for the letter of the most important aspect: the most probable letters, in
//! their order, are its choice, which always parses; then it writes a reason for each. Any other model writes a list,
//! which is parsed.

use serde::{Deserialize, Serialize};

use crate::aspect::Aspect;
use crate::committer::{Committer, read_row, write_row};
use crate::config::{ChooseConfig, Sampling};
use crate::digest::{digest, stream_of};
use crate::error::{Error, Result};
use crate::feedback::ParseOutcome;
use crate::instruction::{Instruction, Message};
use crate::iteration::Iteration;
use crate::row::{Row, Table};
use crate::seam::{ChoiceRequest, GenerationRequest, Policy};
use crate::template::ChooseQuestion;

/// Instructions that are asked about together; what is finished of them is committed together.
const TOGETHER: usize = 64;

/// An aspect that was chosen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChosenAspect {
    /// Its name.
    pub aspect: String,
    /// Why it matters; empty where the model gave no reason.
    #[serde(default)]
    pub reason: String,
}

/// The aspects that an instruction's candidates are judged on, the most important first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AspectChoice {
    /// At least one.
    pub aspects: Vec<ChosenAspect>,
    /// What became of the model's reply; after a failure the aspects are the first ones of the configuration.
    pub parse: ParseOutcome,
}

/// Indices, in `aspects`, of those that an instruction with this choice is judged on: the chosen ones in their order, then
/// those with a checker, about which no model is asked. Without a choice it is all of them.
#[must_use]
pub fn judged_aspects(choice: Option<&AspectChoice>, aspects: &[Aspect]) -> Vec<usize> {
    let Some(choice) = choice else { return (0..aspects.len()).collect() };
    let place =
        |name: &str| aspects.iter().position(|aspect| aspect.name == name && aspect.checker.is_none());
    let chosen = choice.aspects.iter().filter_map(|chosen| place(&chosen.aspect));
    chosen.chain((0..aspects.len()).filter(|&place| aspects[place].checker.is_some())).collect()
}

impl Iteration<'_> {
    /// Stage 2: the choice of each of the `wanted` instructions, by `model`.
    ///
    /// # Errors
    /// A failure of model or store, or the user's interruption; finished choices are committed.
    pub fn choose(
        &mut self,
        model: &mut dyn Policy,
        config: &ChooseConfig,
        wanted: &[usize],
    ) -> Result<Vec<AspectChoice>> {
        let candidates: Vec<&Aspect> = self.aspects.iter().filter(|a| a.checker.is_none()).collect();
        let rubrics: Vec<Aspect> = candidates.iter().map(|aspect| aspect.rubric()).collect();
        let decided_by = (model.digest(), self.templates.choose_digest(), &rubrics, config);
        let mut keys = Vec::with_capacity(wanted.len());
        let mut choices: Vec<Option<AspectChoice>> = Vec::with_capacity(wanted.len());
        for &index in wanted {
            let Instruction { messages, reference, .. } = &self.instructions[index];
            let key = digest(&("aspect choice", &decided_by, messages, reference));
            let known = self.store.get(Table::AspectChoices, &key)?;
            choices.push(known.map(|body| read_row(Table::AspectChoices, &key, body)).transpose()?);
            keys.push(key);
        }
        let missing: Vec<usize> = (0..wanted.len()).filter(|&place| choices[place].is_none()).collect();
        self.begin("choose aspects", wanted.len(), missing.len());
        let chosen = self.choose_missing(model, config, (wanted, &candidates, &keys), &missing, &mut choices);
        self.progress.end();
        chosen?;
        let came_back = |choice: Option<AspectChoice>| {
            choice.ok_or_else(|| Error::Backend("choose aspects: a choice did not come back".into()))
        };
        choices.into_iter().map(came_back).collect()
    }

    fn choose_missing(
        &mut self,
        model: &mut dyn Policy,
        config: &ChooseConfig,
        (wanted, candidates, keys): (&[usize], &[&Aspect], &[String]),
        missing: &[usize],
        choices: &mut [Option<AspectChoice>],
    ) -> Result<()> {
        for places in missing.chunks(TOGETHER) {
            let instructions: Vec<&Instruction> =
                places.iter().map(|&place| &self.instructions[wanted[place]]).collect();
            let chooser = Chooser { templates: self.templates, candidates, config };
            let chosen = chooser.choose(model, &instructions)?;
            let mut committer = Committer::new(self.store);
            for ((&place, instruction), choice) in places.iter().zip(instructions).zip(chosen) {
                let row = Row {
                    key: keys[place].clone(),
                    iteration: self.number,
                    instruction: instruction.id.clone(),
                    position: 0,
                    body: write_row(Table::AspectChoices, &keys[place], &choice)?,
                };
                committer.push(Table::AspectChoices, row)?;
                choices[place] = Some(choice);
            }
            committer.flush()?;
            self.progress.advance(places.len() as u64, 0);
            if self.progress.interrupted() {
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    }
}

/// What is asked about instructions.
struct Chooser<'a> {
    templates: &'a crate::template::Templates,
    candidates: &'a [&'a Aspect],
    config: &'a ChooseConfig,
}

impl Chooser<'_> {
    /// The choices for `instructions`, in their order.
    fn choose(&self, model: &mut dyn Policy, instructions: &[&Instruction]) -> Result<Vec<AspectChoice>> {
        let mut choices: Vec<Option<AspectChoice>> = vec![None; instructions.len()];
        let ranked = self.rank(model, instructions)?;
        self.give_reasons(model, instructions, &ranked, &mut choices)?;
        self.list(model, instructions, &mut choices)?;
        let failed = || self.failed("the prompt does not fit the model's context".into());
        Ok(choices.into_iter().map(|choice| choice.unwrap_or_else(failed)).collect())
    }

    fn question(&self, instruction: &Instruction, ask: ChooseQuestion<'_>) -> Result<Vec<Message>> {
        self.templates.choose(instruction, self.candidates, self.config.most, ask)
    }

    /// Indices of the most probable candidates, where the model tells probabilities.
    fn rank(&self, model: &mut dyn Policy, instructions: &[&Instruction]) -> Result<Vec<Option<Vec<usize>>>> {
        let options: Vec<String> =
            (0..self.candidates.len()).map(|place| letter(place).to_string()).collect();
        let (mut requests, mut places) = (Vec::new(), Vec::new());
        for (place, instruction) in instructions.iter().enumerate() {
            let messages = self.question(instruction, ChooseQuestion::Letter)?;
            if model.fits(&messages)? {
                requests.push(ChoiceRequest { messages, options: options.clone() });
                places.push(place);
            }
        }
        let mut ranked = vec![None; instructions.len()];
        model.choose(&requests, &mut |request, probabilities| {
            if probabilities.len() == options.len() {
                let mut order: Vec<usize> = (0..options.len()).collect();
                // Stable: the first of equals comes first.
                order.sort_by(|&a, &b| probabilities[b].total_cmp(&probabilities[a]));
                order.truncate(self.config.most);
                ranked[places[request]] = Some(order);
            }
            Ok(())
        })?;
        Ok(ranked)
    }

    /// A reason for each ranked aspect.
    fn give_reasons(
        &self,
        model: &mut dyn Policy,
        instructions: &[&Instruction],
        ranked: &[Option<Vec<usize>>],
        choices: &mut [Option<AspectChoice>],
    ) -> Result<()> {
        let mut sampling = Sampling::greedy(self.config.max_new_tokens);
        sampling.stop = vec!["\n".into()];
        let (mut requests, mut places) = (Vec::new(), Vec::new());
        for (place, order) in ranked.iter().enumerate() {
            let Some(order) = order else { continue };
            let mut aspects = Vec::with_capacity(order.len());
            for (rank, &candidate) in order.iter().enumerate() {
                let aspect = self.candidates[candidate].name.clone();
                let messages = self.question(instructions[place], ChooseQuestion::Reason(&aspect))?;
                if model.fits(&messages)? {
                    requests.push(request(messages, &sampling));
                    places.push((place, rank));
                }
                aspects.push(ChosenAspect { aspect, reason: String::new() });
            }
            // Until all its reasons are there.
            choices[place] = Some(AspectChoice { aspects, parse: ParseOutcome::Parsed });
        }
        model.generate(&requests, &mut |request, _, generated| {
            let (place, rank) = places[request];
            if let Some(choice) = &mut choices[place] {
                choice.aspects[rank].reason = generated.text.trim().to_string();
                if !generated.complete {
                    choice.parse = ParseOutcome::Repaired;
                }
            }
            Ok(())
        })?;
        for choice in choices.iter_mut().flatten() {
            if choice.aspects.iter().any(|chosen| chosen.reason.is_empty()) {
                choice.parse = ParseOutcome::Repaired;
            }
        }
        Ok(())
    }

    /// Lists, for the instructions that have no choice yet.
    fn list(
        &self,
        model: &mut dyn Policy,
        instructions: &[&Instruction],
        choices: &mut [Option<AspectChoice>],
    ) -> Result<()> {
        let sampling = Sampling::greedy(self.config.max_new_tokens * self.config.most);
        let (mut requests, mut places) = (Vec::new(), Vec::new());
        for (place, instruction) in instructions.iter().enumerate() {
            let messages = self.question(instruction, ChooseQuestion::List)?;
            if choices[place].is_none() && model.fits(&messages)? {
                requests.push(request(messages, &sampling));
                places.push(place);
            }
        }
        let names: Vec<&str> = self.candidates.iter().map(|aspect| aspect.name.as_str()).collect();
        model.generate(&requests, &mut |request, _, generated| {
            let mut read = read_list(&generated.text, &names, self.config.most);
            if let Some(choice) = read.as_mut().filter(|_| !generated.complete) {
                choice.parse = ParseOutcome::Repaired;
            }
            choices[places[request]] = Some(read.unwrap_or_else(|| self.failed(generated.text)));
            Ok(())
        })
    }

    /// The first aspects of the configuration, in place of those that the model did not name.
    fn failed(&self, reply: String) -> AspectChoice {
        let first = self.candidates.iter().take(self.config.most);
        let aspects =
            first.map(|aspect| ChosenAspect { aspect: aspect.name.clone(), reason: String::new() }).collect();
        AspectChoice { aspects, parse: ParseOutcome::Failed(reply) }
    }
}

/// The letter of the aspect at `place`.
pub(crate) fn letter(place: usize) -> char {
    u8::try_from(place).ok().and_then(|place| b'A'.checked_add(place)).map_or('?', char::from)
}

/// One response, whose stream depends on the prompt alone.
fn request(messages: Vec<Message>, sampling: &Sampling) -> GenerationRequest {
    let streams = vec![stream_of(&messages)];
    GenerationRequest { messages, streams, sampling: sampling.clone() }
}

/// Reads `name: reason` lines; numbers, bullets and letters before a name are taken off. Anything beside them is left out and
/// makes the choice repaired: other lines, a name without a reason or again, more names than `most`. None if no line names
/// an aspect.
#[must_use]
pub fn read_list(reply: &str, names: &[&str], most: usize) -> Option<AspectChoice> {
    let mut aspects: Vec<ChosenAspect> = Vec::new();
    let mut parse = ParseOutcome::Parsed;
    for line in reply.lines().filter(|line| !line.trim().is_empty()) {
        let new = read_line(line, names)
            .filter(|new| aspects.len() < most && aspects.iter().all(|chosen| chosen.aspect != new.aspect));
        if new.as_ref().is_none_or(|new| new.reason.is_empty()) {
            parse = ParseOutcome::Repaired;
        }
        aspects.extend(new);
    }
    (!aspects.is_empty()).then_some(AspectChoice { aspects, parse })
}

fn read_line(line: &str, names: &[&str]) -> Option<ChosenAspect> {
    let text = unmarked(line);
    let begins =
        |name: &&&str| text.get(..name.len()).is_some_and(|beginning| beginning.eq_ignore_ascii_case(name));
    // The longest: one name may begin another.
    let name = names.iter().filter(begins).max_by_key(|name| name.len())?;
    let rest = text[name.len()..].trim_start_matches(['*', '_', ' ']);
    let separators = [':', '-', '–', '—', '('];
    if !rest.is_empty() && !rest.starts_with(separators) {
        return None;
    }
    let reason = rest.trim_start_matches(separators).trim_matches(['*', '_', ' ']).trim();
    Some(ChosenAspect { aspect: (*name).to_string(), reason: reason.to_string() })
}

/// Without the mark of a list item: `-`, `1.`, `B)`, and what makes a name bold.
fn unmarked(line: &str) -> &str {
    let is_mark = |c: char| c.is_whitespace() || ['-', '*', '•', '_', '#'].contains(&c);
    let bare = |text: &str| text.trim_start_matches(is_mark).len();
    let text = &line[line.len() - bare(line)..];
    let label = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let label = if label.len() == text.len() {
        text.strip_prefix(|c: char| c.is_ascii_uppercase())
    } else {
        Some(label)
    };
    match label.and_then(|rest| rest.strip_prefix(['.', ')', ':'])) {
        Some(rest) => &rest[rest.len() - bare(rest)..],
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["factuality", "completeness", "complete"];

    fn named(reply: &str, most: usize) -> Option<(Vec<(String, String)>, ParseOutcome)> {
        let choice = read_list(reply, &NAMES, most)?;
        let aspects = choice.aspects.into_iter().map(|chosen| (chosen.aspect, chosen.reason)).collect();
        Some((aspects, choice.parse))
    }

    #[test]
    fn lists_are_read_as_asked_for_or_mended_or_not_at_all() {
        let pairs = |aspects: &[(&str, &str)]| {
            aspects
                .iter()
                .map(|(name, reason)| ((*name).to_string(), (*reason).to_string()))
                .collect::<Vec<_>>()
        };
        let both = pairs(&[("completeness", "it asks for three."), ("factuality", "dates")]);
        for reply in [
            "completeness: it asks for three.\nfactuality: dates",
            "1. Completeness: it asks for three.\n2) factuality - dates\n",
            "- **completeness**: it asks for three.\n\n- **factuality**: dates",
            "B. completeness: it asks for three.\nA. factuality — dates",
        ] {
            assert_eq!(named(reply, 3), Some((both.clone(), ParseOutcome::Parsed)), "{reply}");
        }
        for reply in [
            "Here they are:\ncompleteness: it asks for three.\nfactuality: dates",
            "completeness: it asks for three.\ncompleteness: again\nfactuality: dates",
            "completeness: it asks for three.\nfactuality: dates\ncomplete: one too many",
        ] {
            assert_eq!(named(reply, 2), Some((both.clone(), ParseOutcome::Repaired)), "{reply}");
        }
        assert_eq!(
            named("factuality", 3),
            Some((pairs(&[("factuality", "")]), ParseOutcome::Repaired)),
            "no reason"
        );
        for reply in
            ["", "\n", "speed: it matters", "factuality matters most", "I choose factuality: dates", "é"]
        {
            assert_eq!(named(reply, 3), None, "{reply}");
        }
    }

    #[test]
    fn chosen_aspects_come_first_and_checkers_always() {
        let text = "[[aspect]]\nname = 'a'\ncriterion = 'c'\nlevels = ['1', '2', '3']\n";
        let checked = "checker = { kind = 'number' }\n";
        let text = format!("{}{}{checked}{}", text, text.replace("'a'", "'b'"), text.replace("'a'", "'c'"));
        let aspects = Aspect::read_toml("f", &text).unwrap();
        let chosen = |name: &str| ChosenAspect { aspect: name.into(), reason: String::new() };
        let choice = |names: &[&str]| AspectChoice {
            aspects: names.iter().map(|name| chosen(name)).collect(),
            parse: ParseOutcome::Parsed,
        };
        assert_eq!(judged_aspects(None, &aspects), [0, 1, 2]);
        assert_eq!(judged_aspects(Some(&choice(&["c", "a"])), &aspects), [2, 0, 1]);
        assert_eq!(judged_aspects(Some(&choice(&["c", "b", "gone"])), &aspects), [2, 1]);
    }
}
