//! `rlrf sample`, `feedback`, `refine` and `pairs`: the stages of an iteration on files of candidates.

use std::cell::RefCell;
use std::path::Path;

use anyhow::{Result, bail};
use rlrf_method::candidates::{read_candidates, write_candidates};
use rlrf_method::choose::judged_aspects;
use rlrf_method::config::{ChooseConfig, MethodConfig};
use rlrf_method::demonstration::Demonstration;
use rlrf_method::dispatch::AspectCheckers;
use rlrf_method::distribution::Distribution;
use rlrf_method::iteration::{CandidateGroup, Iteration};
use rlrf_method::preference_file::write_preferences;
use rlrf_method::row::SharedStore;
use rlrf_method::score::{Candidate, CandidateKind};
use rlrf_method::seam::{Checker, CheckerJudge, Judge, Policy};
use rlrf_method::summary::IterationSummary;
use rlrf_method::{Aspect, Instruction, RowStore, Templates};
use serde_json::json;

use super::{PartialOutput, Stage, expect_file};
use crate::arguments::{
    JudgeCandidatesOptions, PairsOptions, RefineCandidatesOptions, RefineDemonstrationsOptions, SampleOptions,
};
use crate::aspects::{check_choice, checkers};
use crate::console::Console;
use crate::inputs::{check_answers, check_aspects, checker, limited};
use crate::judges::{JudgeModels, Judging, dispatched, grounded, refuse_silence};
use crate::retrieval;

const FEEDBACK_SETTINGS: [&str; 14] = [
    "checker",
    "feedback.reference",
    "feedback.aspects",
    "feedback.aspects_file",
    "feedback.weights",
    "feedback.checkers",
    "feedback.choose",
    "feedback.retrieval",
    "feedback.critique",
    "feedback.endpoint",
    "feedback.judges",
    "templates.feedback",
    "templates.choose",
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
const DEMONSTRATION_SETTINGS: [&str; 4] =
    ["pairs.margin", "pairs.min_chosen_score", "refine.feedback", "templates.refine"];
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

pub(crate) fn feedback(options: &JudgeCandidatesOptions, json: bool, console: &Console) -> Result<()> {
    let (Some(candidates), Some(out)) = (&options.candidates, &options.out) else {
        bail!("name what is to be judged: --candidates FILE --out FILE");
    };
    expect_file(out)?;
    let mut stage = Stage::new("feedback", &options.settings, &FEEDBACK_SETTINGS)?;
    let (inputs, mut groups) = Inputs::read_candidates(&mut stage, candidates)?;
    inputs.refuse_other_aspects(candidates, &groups)?;
    if let Some(checker) = &inputs.checker {
        check_answers(checker.as_ref(), &inputs.instructions, candidates)?;
    }
    check_aspects(&inputs.aspect_checkers, &inputs.instructions, candidates)?;
    let grounding = match stage.config.feedback.retrieval.clone().filter(|_| stage.config.feedback.reference)
    {
        Some(retrieval) => Some(retrieval::grounding(&retrieval, &mut stage.reader, &inputs.instructions)?),
        None => None,
    };
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
    let unchecked = inputs.aspects.iter().find(|aspect| aspect.checker.is_none());
    if let Some(aspect) = unchecked.filter(|_| models.is_empty() && checker.is_none()) {
        bail!(
            "nobody judges {}: give --model DIR or URL, or a checker: --set checker=arithmetic",
            aspect.name
        );
    }
    let choose = stage.config.feedback.choose.as_ref();
    if models.is_empty() && (choose.is_some() || grounding.is_some()) {
        bail!("feedback.choose and feedback.retrieval are for a model: give --model DIR or URL");
    }
    let judged = groups.iter().flat_map(|group| &group.candidates).filter(|c| c.feedback.is_empty()).count();
    let Some(mut output) = stage.begin(out, json, console)? else { return Ok(()) };
    let summary = {
        let judging = Judging::new(&stage.config, &inputs.templates);
        let store = RefCell::new(&mut output.store as &mut dyn RowStore);
        let shared = SharedStore::new(&store);
        let mut store = shared;
        let mut iteration = inputs.iteration(&mut store, console);
        if let Some(config) = choose {
            models.ask_chooser(None, judging.engine, (shared, 0), |model| {
                choose_aspects(&mut iteration, model, config, &mut groups)
            })?;
        }
        let judge: Option<Box<dyn Judge + '_>> = match checker {
            Some(checker) => Some(Box::new(CheckerJudge(checker))),
            None => models.judge(judging, shared, 0)?.map(|judge| grounded(judge, grounding.as_ref())),
        };
        let mut judge = dispatched(judge, &inputs.aspect_checkers);
        iteration.feedback(judge.as_mut(), &mut groups)?;
        iteration.summary(&groups)
    };
    refuse_silence(&groups)?;
    let line = format!(
        "{judged} candidates judged on {}{} ({}), {} replies unreadable: {}",
        choose.map_or(String::new(), |choose| format!("at most {} of ", choose.most)),
        stage.config.feedback.aspects.join(", "),
        mean_scores(&groups),
        summary.feedback_failed,
        out.display()
    );
    inputs.finish(output, &groups, &summary, &line)
}

/// For the instructions that nothing was judged of yet; the others stay comparable with what was.
fn choose_aspects(
    iteration: &mut Iteration<'_>,
    model: &mut dyn Policy,
    config: &ChooseConfig,
    groups: &mut [CandidateGroup],
) -> rlrf_method::Result<()> {
    let unjudged = |group: &&mut CandidateGroup| {
        group.choice.is_none() && group.candidates.iter().all(|candidate| candidate.feedback.is_empty())
    };
    let open: Vec<&mut CandidateGroup> = groups.iter_mut().filter(unjudged).collect();
    let wanted: Vec<usize> = open.iter().map(|group| group.instruction).collect();
    for (group, choice) in open.into_iter().zip(iteration.choose(model, config, &wanted)?) {
        group.choice = Some(choice);
    }
    Ok(())
}

pub(crate) fn refine(options: &RefineCandidatesOptions, json: bool, console: &Console) -> Result<()> {
    let (Some(model), Some(candidates), Some(out)) = (&options.model, &options.candidates, &options.out)
    else {
        bail!("name who refines what: --model DIR or URL --candidates FILE --out FILE");
    };
    expect_file(out)?;
    let mut stage = Stage::new("refine", &options.settings, &REFINE_SETTINGS)?;
    let (inputs, groups) = Inputs::read_candidates(&mut stage, candidates)?;
    refuse_unjudged(candidates, &groups)?;
    let mut policy = stage.policy(model, options.model_name.as_deref())?;
    let Some(mut output) = stage.begin(out, json, console)? else { return Ok(()) };
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
        out.display()
    );
    inputs.finish(output, &groups, &summary, &line)
}

pub(crate) fn refine_demonstrations(
    options: &RefineDemonstrationsOptions,
    json: bool,
    console: &Console,
) -> Result<()> {
    expect_file(&options.out)?;
    let mut stage = Stage::new("refine demonstrations", &options.settings, &DEMONSTRATION_SETTINGS)?;
    let (inputs, groups) = Inputs::read_candidates(&mut stage, &options.candidates)?;
    refuse_unjudged(&options.candidates, &groups)?;
    let MethodConfig { refine, pairs, .. } = &inputs.method;
    let demonstrations = Demonstration::of_refinements(
        &inputs.instructions,
        &groups,
        &inputs.templates,
        refine.feedback,
        pairs,
    )?;
    if demonstrations.is_empty() {
        bail!(
            "{}: no judged refinement is better than its draft by {} levels (pairs.margin), with a score of at least {} \
             (pairs.min_chosen_score): refine, and run `rlrf feedback` on the refinements",
            options.candidates.display(),
            pairs.margin,
            pairs.min_chosen_score
        );
    }
    let Some(output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let candidates = groups.iter().flat_map(|group| &group.candidates);
    let refinements = candidates.filter(|candidate| candidate.draft.is_some()).count();
    let line = format!(
        "{} demonstrations of refining, from {refinements} refinements: {}",
        demonstrations.len(),
        options.out.display()
    );
    let figures = json!({ "demonstrations": demonstrations.len(), "refinements": refinements });
    output.finish_file(&Demonstration::write_jsonl(&demonstrations)?, &figures, &line)
}

pub(crate) fn pairs(options: &PairsOptions, json: bool, console: &Console) -> Result<()> {
    expect_file(&options.out)?;
    let mut stage = Stage::new("pairs", &options.settings, &PAIRS_SETTINGS)?;
    stage.reader.remember("format", &format!("{:?}", options.format));
    let (inputs, groups) = Inputs::read_candidates(&mut stage, &options.candidates)?;
    refuse_unjudged(&options.candidates, &groups)?;
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let (preferences, summary) = inputs.iteration(&mut output.store, console).pairs(&groups)?;
    let lines = write_preferences(&preferences, options.format.into())?;
    let IterationSummary { pairs, paired_instructions, pairs_chosen_refined, instructions, .. } = summary;
    let line = format!(
        "{pairs} pairs from {paired_instructions} of {instructions} instructions, {pairs_chosen_refined} of them \
         prefer a refinement{}: {}{}",
        match summary.cut {
            0 => String::new(),
            cut => format!("; {cut} candidates were cut at their length limit and are never chosen"),
        },
        options.out.display(),
        pair_figures(&summary)
    );
    output.finish_file(&lines, &summary, &line)
}

/// How far apart the responses of the pairs are, and how long; nothing where there is no pair.
fn pair_figures(summary: &IterationSummary) -> String {
    let IterationSummary { pair_gaps, chosen_lengths, rejected_lengths, .. } = summary;
    [
        ("gap in levels", pair_gaps, 2),
        ("length of chosen in characters", chosen_lengths, 0),
        ("length of rejected", rejected_lengths, 0),
    ]
    .into_iter()
    .filter_map(|(name, distribution, decimals)| {
        let Distribution { mean, minimum, lower_quartile, median, upper_quartile, maximum } =
            (*distribution)?;
        let quantiles = [minimum, lower_quartile, median, upper_quartile, maximum];
        let quantiles = quantiles.map(|value| format!("{value:.decimals$}")).join(", ");
        Some(format!("\n{name}: mean {mean:.2}; minimum, quartiles, maximum {quantiles}"))
    })
    .collect()
}

/// What an iteration needs beside its models.
pub(super) struct Inputs {
    method: MethodConfig,
    pub(super) instructions: Vec<Instruction>,
    pub(super) aspects: Vec<Aspect>,
    pub(super) aspect_checkers: AspectCheckers,
    templates: Templates,
    pub(super) checker: Option<Box<dyn Checker>>,
}

impl Inputs {
    fn read(stage: &mut Stage, instructions: Vec<Instruction>) -> Result<Self> {
        let aspects = stage.reader.aspects(&stage.config)?;
        check_choice(stage.config.feedback.choose.as_ref(), &aspects)?;
        Ok(Self {
            method: stage.config.loop_config(),
            instructions,
            aspect_checkers: checkers(&aspects)?,
            aspects,
            templates: stage.reader.templates(&stage.config)?,
            checker: checker(&stage.config)?,
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
            choices: Vec::new(),
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
            let id = &self.instructions[group.instruction].id;
            let known = |name: &str| self.aspects.iter().any(|aspect| aspect.name == name);
            let mut chosen = group.choice.iter().flat_map(|choice| &choice.aspects);
            if let Some(gone) = chosen.find(|chosen| !known(&chosen.aspect)) {
                bail!(
                    "{}: instruction {id} is to be judged on {:?}, as `aspect_choice` says: name it in feedback.aspects",
                    file.display(),
                    gone.aspect
                );
            }
            let expected = judged_aspects(group.choice.as_ref(), &self.aspects);
            for candidate in group.candidates.iter().filter(|candidate| !candidate.feedback.is_empty()) {
                let judged: Vec<&str> = candidate.feedback.iter().map(|f| f.aspect.as_str()).collect();
                if !judged.iter().eq(expected.iter().map(|&place| &self.aspects[place].name)) {
                    bail!(
                        "{}: instruction {id} has candidates judged on {judged:?} already: give the same aspects, as in \
                         --set 'feedback.aspects={judged:?}'",
                        file.display()
                    );
                }
            }
        }
        Ok(())
    }
}

pub(super) fn refuse_unjudged(file: &Path, groups: &[CandidateGroup]) -> Result<()> {
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
