//! `rlrf feedback train` and `rlrf feedback records`: what a feedback model learns from, and its training.

use anyhow::{Result, bail};
use rlrf_eval::{Context, Evaluation, agreement};
use rlrf_local::LocalJudge;
use rlrf_method::digest::stream;
use rlrf_method::seam::CheckerJudge;
use rlrf_method::{Aspect, FeedbackRecord};
use serde_json::json;

use super::candidates::{Inputs, refuse_unjudged};
use super::training::trained;
use super::{Stage, expect_file, expect_model_folder};
use crate::arguments::{FeedbackRecordsOptions, FeedbackTrainOptions};
use crate::console::Console;
use crate::inputs::{check_answers, check_records, checker};
use crate::judges::dispatched;
use crate::overlap::Trained;

const TRAIN_SETTINGS: [&str; 10] = [
    "seed",
    "feedback.sft.training",
    "feedback.sft.completion_only_loss",
    "feedback.aspects_file",
    "feedback.reference",
    "templates.feedback",
    "checker",
    "feedback.critique",
    "generation",
    "evaluation.allow_overlap",
];

const RECORDS_SETTINGS: [&str; 4] =
    ["checker", "feedback.aspects", "feedback.aspects_file", "feedback.checkers"];

pub(crate) fn train(options: &FeedbackTrainOptions, json: bool, console: &Console) -> Result<()> {
    expect_model_folder(&options.out)?;
    let mut stage = Stage::new("feedback train", &options.settings, &TRAIN_SETTINGS)?;
    let templates = stage.reader.templates(&stage.config)?;
    let (records, held_out) = records(&mut stage, options)?;
    let demonstrations =
        FeedbackRecord::demonstrations(&options.records.display().to_string(), &records, &templates)?;
    let checker = checker(&stage.config)?;
    let mut model = stage.model(&options.model)?;
    // Refuses now a tokenizer that cannot tell the levels, and settings that cannot be.
    LocalJudge::new(&model, &templates, &stage.config.feedback.critique, stage.config.engine())?;
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    let training = output.training_stage("sft feedback");
    let section = stage.config.feedback.sft.clone().unwrap_or_default();
    let settings = section.settings(stream(stage.config.seed, &training.name, "", 0));
    rlrf_local::fine_tune(&mut model, &demonstrations, &settings, &training, &mut output.store, console)?;
    let (outcome, mut line) = trained(&output, &model)?;
    let mut agreement: Option<Evaluation> = None;
    if !held_out.is_empty() {
        let mut judge =
            LocalJudge::new(&model, &templates, &stage.config.feedback.critique, stage.config.engine())?;
        let mut context = Context { store: &mut output.store, progress: console };
        let found = agreement::evaluate(
            &mut context,
            &mut judge,
            checker.as_deref(),
            "held out",
            &held_out,
            &templates,
        )?;
        let table = rlrf_report::evaluation_table(&found.evaluation);
        line = format!("{line}\n{}", table.trim_end());
        agreement = Some(found.evaluation);
    }
    let figures = json!({ "training": outcome, "held_out": agreement });
    output.finish_model(&model, &figures, &line)
}

/// The records to learn from, and those held out.
fn records(
    stage: &mut Stage,
    options: &FeedbackTrainOptions,
) -> Result<(Vec<FeedbackRecord>, Vec<FeedbackRecord>)> {
    let aspects = stage.reader.all_aspects(&stage.config)?;
    let (name, bytes) = stage.reader.given("records", &options.records)?;
    let records = FeedbackRecord::read_jsonl(&name, &bytes, &aspects)?;
    let (records, held_out) = match (&options.held_out, options.held_out_share) {
        (Some(file), _) => {
            let (name, bytes) = stage.reader.given("held-out", file)?;
            (records, FeedbackRecord::read_jsonl(&name, &bytes, &aspects)?)
        }
        (None, Some(share)) if share > 0.0 && share < 1.0 => {
            stage.reader.remember("held-out share", &share.to_string());
            FeedbackRecord::hold_out(records, share, stage.config.seed)
        }
        (None, Some(share)) => bail!("--held-out-share {share}: must be above 0 and below 1"),
        (None, None) => (records, Vec::new()),
    };
    if let Some(checker) = checker(&stage.config)? {
        check_records(checker.as_ref(), &held_out, options.held_out.as_ref().unwrap_or(&options.records))?;
    }
    if !stage.config.evaluation.allow_overlap {
        let mut trained = Trained::default();
        for (number, record) in (1..).zip(&records) {
            trained.add(&record.instruction.messages, &format!("record {number} of {name}"));
        }
        let questions: Vec<String> = held_out.iter().map(|record| record.instruction.text()).collect();
        trained.refuse_questions(&questions, "held-out records")?;
    }
    Ok((records, held_out))
}

pub(crate) fn write_records(options: &FeedbackRecordsOptions, json: bool, console: &Console) -> Result<()> {
    expect_file(&options.out)?;
    let mut stage = Stage::new("feedback records", &options.settings, &RECORDS_SETTINGS)?;
    let (inputs, mut groups) = Inputs::read_candidates(&mut stage, &options.candidates)?;
    let mut aspects: Vec<Aspect> = stage.reader.all_aspects(&stage.config)?;
    match &inputs.checker {
        Some(checker) => check_answers(checker.as_ref(), &inputs.instructions, &options.candidates)?,
        None => refuse_unjudged(&options.candidates, &groups)?,
    }
    let Some(mut output) = stage.begin(&options.out, json, console)? else { return Ok(()) };
    if let Some(checker) = &inputs.checker {
        groups.iter_mut().flat_map(|group| &mut group.candidates).for_each(|c| c.feedback.clear());
        let mut judge = dispatched(Some(Box::new(CheckerJudge(checker.as_ref()))), &inputs.aspect_checkers);
        inputs.iteration(&mut output.store, console).feedback(judge.as_mut(), &mut groups)?;
        aspects.clone_from(&inputs.aspects);
    }
    let records = FeedbackRecord::of_candidates(&inputs.instructions, &groups, &aspects)?;
    let at = |level: u8| records.iter().filter(|record| record.level == level).count();
    let levels = [at(1), at(2), at(3)];
    let line = format!(
        "{} records, {} at level 1, {} at level 2, {} at level 3: {}",
        records.len(),
        levels[0],
        levels[1],
        levels[2],
        options.out.display()
    );
    let figures = json!({ "records": records.len(), "levels": levels });
    output.finish_file(&FeedbackRecord::write_jsonl(&records)?, &figures, &line)
}
