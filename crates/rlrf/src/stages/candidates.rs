//! `rlrf sample`, `feedback`, `refine` and `pairs`: the stages of an iteration on files of candidates.

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rlrf_method::candidates::{read_candidates, write_candidates};
use rlrf_method::config::MethodConfig;
use rlrf_method::iteration::{CandidateGroup, Iteration};
use rlrf_method::pairs::preference_records;
use rlrf_method::row::SharedStore;
use rlrf_method::score::{Candidate, CandidateKind};
use rlrf_method::seam::{Checker, CheckerJudge, Judge};
use rlrf_method::summary::IterationSummary;
use rlrf_method::{Aspect, Instruction, RowStore, Templates};

use super::{PartialOutput, Stage, expect_file};
use crate::arguments::{FeedbackOptions, PairsOptions, RefineOptions, SampleOptions};
use crate::console::Console;
use crate::inputs::{check_answers, checker, limited};
use crate::judges::{JudgeModels, Judging};

const FEEDBACK_SETTINGS: [&str; 8] = [
    "checker",
    "feedback.aspects",
    "feedback.aspects_file",
    "feedback.critique",
    "feedback.endpoint",
    "feedback.judges",
    "templates.feedback",
    "generation",
];

// The aspects here are those that the reported figures are told by.
const REFINE_SETTINGS: [&str; 7] = [
    "seed",
    "select",
    "refine",
    "templates.refine",
    "feedback.aspects",
    "feedback.aspects_file",
    "generation",
];
const PAIRS_SETTINGS: [&str; 3] = ["pairs", "feedback.aspects", "feedback.aspects_file"];

pub(crate) fn sample(options: &SampleOptions, json: bool, console: &Console) -> Result<()> {
    expect_file(&options.out)?;
    let mut stage =
        Stage::new("sample", &options.settings, &["seed", "sample", "instructions.limit", "generation"])?;
    let (name, bytes) = stage.reader.given("instructions", &options.instructions)?;
    let instructions = limited(Instruction::read_jsonl(&name, &bytes)?, &stage.config)?;
    let inputs = Inputs::read(&mut stage, instructions)?;
    let mut policy = stage.policy(&options.model, options.model_name.as_deref())?;
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let mut iteration = inputs.iteration(&mut output.store, console);
    let groups = iteration.sample(policy.as_mut())?;
    let summary = iteration.summary(&groups);
    let line = format!(
        "{} candidates for {} instructions, {} of them distinct: {}",
        summary.sampled,
        summary.instructions,
        summary.sampled_distinct,
        options.out.display()
    );
    inputs.finish(output, &groups, &summary, &line)
}

pub(crate) fn feedback(options: &FeedbackOptions, json: bool, console: &Console) -> Result<()> {
    expect_file(&options.out)?;
    let mut stage = Stage::new("feedback", &options.settings, &FEEDBACK_SETTINGS)?;
    let (inputs, mut groups) = Inputs::read_candidates(&mut stage, &options.candidates)?;
    inputs.refuse_other_aspects(&options.candidates, &groups)?;
    if let Some(checker) = &inputs.checker {
        check_answers(checker.as_ref(), &inputs.instructions, &options.candidates)?;
    }
    let mut models = match &options.model {
        Some(source) => {
            let judging = Judging::new(&stage.config, &inputs.templates);
            let (models, digest) = JudgeModels::single(source, options.model_name.as_deref(), judging)?;
            stage.reader.remember_given("model", Path::new(source), &digest);
            models
        }
        None => JudgeModels::configured(&stage.config, &inputs.templates, &mut stage.reader)?,
    };
    let checker = inputs.checker.as_deref().filter(|_| models.is_empty());
    if models.is_empty() && checker.is_none() {
        bail!("nobody judges: give --model DIR or URL, or a checker: --set checker=arithmetic");
    }
    let judged = groups.iter().flat_map(|group| &group.candidates).filter(|c| c.feedback.is_empty()).count();
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let summary = {
        let judging = Judging::new(&stage.config, &inputs.templates);
        let store = RefCell::new(&mut output.store as &mut dyn RowStore);
        let mut store = SharedStore::new(&store);
        let mut judge: Box<dyn Judge + '_> = match checker {
            Some(checker) => Box::new(CheckerJudge(checker)),
            None => models.judge(judging, store, 0)?.context("no judge was opened")?,
        };
        let mut iteration = inputs.iteration(&mut store, console);
        iteration.feedback(judge.as_mut(), &mut groups)?;
        iteration.summary(&groups)
    };
    let line = format!(
        "{judged} candidates judged on {} ({}), {} replies unreadable: {}",
        stage.config.feedback.aspects.join(", "),
        mean_scores(&groups),
        summary.feedback_failed,
        options.out.display()
    );
    inputs.finish(output, &groups, &summary, &line)
}

pub(crate) fn refine(options: &RefineOptions, json: bool, console: &Console) -> Result<()> {
    expect_file(&options.out)?;
    let mut stage = Stage::new("refine", &options.settings, &REFINE_SETTINGS)?;
    let (inputs, groups) = Inputs::read_candidates(&mut stage, &options.candidates)?;
    refuse_unjudged(&options.candidates, &groups)?;
    let mut policy = stage.policy(&options.model, options.model_name.as_deref())?;
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let mut iteration = inputs.iteration(&mut output.store, console);
    // A repeated call must not refine again what it has refined.
    let refined = |group: &CandidateGroup| group.candidates.iter().any(|c| c.kind == CandidateKind::Refined);
    let (mut groups, mut open): (Vec<_>, Vec<_>) = groups.into_iter().partition(refined);
    let left_alone = match groups.len() {
        0 => String::new(),
        count => format!("; {count} had refinements already and were left alone"),
    };
    let before = open.iter().map(|group| group.candidates.len()).sum::<usize>();
    iteration.refine(policy.as_mut(), &mut open)?;
    let refinements = open.iter().map(|group| group.candidates.len()).sum::<usize>() - before;
    let drafts: usize = open.iter().map(|group| group.promising.len()).sum();
    groups.extend(open);
    groups.sort_by_key(|group| group.instruction);
    let summary = iteration.summary(&groups);
    let line = format!(
        "{refinements} refinements of {drafts} drafts; {} instructions have nothing left to fix{left_alone}: {}",
        summary.perfect,
        options.out.display()
    );
    inputs.finish(output, &groups, &summary, &line)
}

pub(crate) fn pairs(options: &PairsOptions, json: bool, console: &Console) -> Result<()> {
    expect_file(&options.out)?;
    let mut stage = Stage::new("pairs", &options.settings, &PAIRS_SETTINGS)?;
    let (inputs, groups) = Inputs::read_candidates(&mut stage, &options.candidates)?;
    refuse_unjudged(&options.candidates, &groups)?;
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let (preferences, summary) = inputs.iteration(&mut output.store, console).pairs(&groups)?;
    let mut lines = Vec::new();
    for record in preferences.iter().flat_map(preference_records) {
        serde_json::to_writer(&mut lines, &record)?;
        lines.push(b'\n');
    }
    let IterationSummary { pairs, paired_instructions, pairs_chosen_refined, instructions, .. } = summary;
    let line = format!(
        "{pairs} pairs from {paired_instructions} of {instructions} instructions, {pairs_chosen_refined} of them \
         prefer a refinement: {}",
        options.out.display()
    );
    output.finish_file(&lines, &summary, &line)
}

/// What an iteration needs beside its models.
pub(super) struct Inputs {
    method: MethodConfig,
    instructions: Vec<Instruction>,
    aspects: Vec<Aspect>,
    templates: Templates,
    checker: Option<Box<dyn Checker>>,
}

impl Inputs {
    fn read(stage: &mut Stage, instructions: Vec<Instruction>) -> Result<Self> {
        Ok(Self {
            method: stage.config.loop_config(),
            instructions,
            aspects: stage.reader.aspects(&stage.config)?,
            templates: stage.reader.templates(&stage.config)?,
            checker: checker(&stage.config),
        })
    }

    pub(super) fn read_candidates(stage: &mut Stage, file: &Path) -> Result<(Self, Vec<CandidateGroup>)> {
        let (name, bytes) = stage.reader.given("candidates", file)?;
        let (instructions, groups) = read_candidates(&name, &bytes)?;
        Ok((Self::read(stage, instructions)?, groups))
    }

    pub(super) fn iteration<'a>(
        &'a self,
        store: &'a mut dyn RowStore,
        console: &'a Console,
    ) -> Iteration<'a> {
        Iteration {
            config: &self.method,
            number: 0,
            instructions: &self.instructions,
            aspects: &self.aspects,
            templates: &self.templates,
            store,
            progress: console,
            checker: self.checker.as_deref(),
            reward: None,
        }
    }

    fn finish(
        &self,
        output: PartialOutput<'_>,
        groups: &[CandidateGroup],
        summary: &IterationSummary,
        line: &str,
    ) -> Result<()> {
        output.finish_file(&write_candidates(&self.instructions, groups)?, summary, line)
    }

    /// Scores on other aspects could not be compared with the new ones.
    fn refuse_other_aspects(&self, file: &Path, groups: &[CandidateGroup]) -> Result<()> {
        for group in groups {
            for candidate in group.candidates.iter().filter(|candidate| !candidate.feedback.is_empty()) {
                let judged: Vec<&str> = candidate.feedback.iter().map(|f| f.aspect.as_str()).collect();
                if !judged.iter().eq(self.aspects.iter().map(|aspect| &aspect.name)) {
                    bail!(
                        "{}: instruction {} has candidates judged on {judged:?} already: give the same aspects, as in \
                         --set 'feedback.aspects={judged:?}'",
                        file.display(),
                        self.instructions[group.instruction].id
                    );
                }
            }
        }
        Ok(())
    }
}

fn refuse_unjudged(file: &Path, groups: &[CandidateGroup]) -> Result<()> {
    if groups.iter().flat_map(|group| &group.candidates).all(|candidate| candidate.feedback.is_empty()) {
        bail!("{}: no candidate has feedback: run `rlrf feedback` on it first", file.display());
    }
    Ok(())
}

/// Mean score of the samples and of the refinements.
fn mean_scores(groups: &[CandidateGroup]) -> String {
    let mean = |kind: CandidateKind| {
        let of_kind = |candidate: &&Candidate| candidate.kind == kind;
        let candidates = groups.iter().flat_map(|group| &group.candidates).filter(of_kind);
        let scores: Vec<f64> = candidates.filter_map(|candidate| candidate.score).collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    };
    let named = [("samples", CandidateKind::Sampled), ("refinements", CandidateKind::Refined)];
    let shown = named.map(|(name, kind)| mean(kind).map(|score| format!("mean score of {name} {score:.2}")));
    shown.into_iter().flatten().collect::<Vec<_>>().join(", ")
}
