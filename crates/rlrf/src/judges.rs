//! Who judges: the policy itself, a feedback model, the checker, or models that the configuration names beside them.

use anyhow::{Context as _, Result, bail};
use rlrf_engine::EngineOptions;
use rlrf_local::{JudgeConfig, LocalJudge, LocalPolicy};
use rlrf_method::config::Sampling;
use rlrf_method::dispatch::{AspectCheckers, DispatchJudge};
use rlrf_method::grounding::{GroundedJudge, Grounding};
use rlrf_method::iteration::CandidateGroup;
use rlrf_method::kept::KeptPolicy;
use rlrf_method::panel::Panel;
use rlrf_method::row::SharedStore;
use rlrf_method::seam::{CheckerJudge, Judge, Policy};
use rlrf_method::text_judge::TextJudge;
use rlrf_method::{ParseOutcome, Templates};
use rlrf_model::Model;
use rlrf_remote::{RemotePolicy, is_url};

use crate::config::{Config, FeedbackConfig, FeedbackOrigin, JudgeModel};
use crate::inputs::{Reader, RunInputs};
use crate::model_source;

/// What a reply in free text needs beside its critique: the line with the level.
const VERDICT_TOKENS: usize = 16;

/// Names the rows of judges' replies.
const REPLIES: &str = "feedback replies";

/// The models of `feedback.endpoint` or `feedback.judges`, opened: none where others judge.
pub(crate) struct JudgeModels(Vec<OpenedModel>);

enum OpenedModel {
    Folder(Box<Model>),
    Endpoint(RemotePolicy),
}

/// How models judge.
#[derive(Clone, Copy)]
pub(crate) struct Judging<'a> {
    pub(crate) templates: &'a Templates,
    pub(crate) critique: &'a JudgeConfig,
    pub(crate) engine: EngineOptions,
}

impl<'a> Judging<'a> {
    pub(crate) fn new(config: &'a Config, templates: &'a Templates) -> Self {
        Self { templates, critique: &config.feedback.critique, engine: config.engine() }
    }
}

impl JudgeModels {
    /// Opens what `feedback.source` of a run names; refuses what it does not name.
    pub(crate) fn of_run(config: &Config, inputs: &RunInputs, reader: &mut Reader) -> Result<Self> {
        let feedback = &config.feedback;
        let idle = |key: &str, source: &str| {
            bail!(
                "configuration: `feedback.{key}` names who judges, but feedback.source says that somebody else does: set \
                 feedback.source = \"{source}\", or take `feedback.{key}` out"
            )
        };
        match (feedback.source, &feedback.endpoint, feedback.judges.as_slice()) {
            (FeedbackOrigin::Endpoint, None, _) => bail!(
                "configuration: feedback.source = \"endpoint\" needs its address, as in feedback.endpoint = {{ model = \
                 \"http://127.0.0.1:8000/v1\" }}"
            ),
            (FeedbackOrigin::Panel, _, []) => bail!(
                "configuration: feedback.source = \"panel\" needs its members, as in feedback.judges = [{{ model = \"DIR\" \
                 }}, {{ model = \"http://127.0.0.1:8000/v1\" }}]"
            ),
            (source, Some(_), _) if source != FeedbackOrigin::Endpoint => {
                return idle("endpoint", "endpoint");
            }
            (source, _, [_, ..]) if source != FeedbackOrigin::Panel => return idle("judges", "panel"),
            _ if !config.needs_judge() => return Ok(Self(Vec::new())),
            _ => {}
        }
        Self::configured(config, &inputs.templates, reader)
    }

    /// Opens what the configuration names, if it does.
    pub(crate) fn configured(config: &Config, templates: &Templates, reader: &mut Reader) -> Result<Self> {
        let FeedbackConfig { endpoint, judges, .. } = &config.feedback;
        if let Some(endpoint) = endpoint.as_ref().filter(|endpoint| !is_url(&endpoint.model)) {
            bail!(
                "configuration: feedback.endpoint.model = {:?}: must be an address such as http://127.0.0.1:8000/v1; a model \
                 folder is named by feedback.model, with feedback.source = \"model\"",
                endpoint.model
            );
        }
        let endpoint = endpoint.iter().map(|judge| ("feedback.endpoint".to_string(), judge));
        let judges =
            (1..).zip(judges).map(|(number, judge)| (format!("feedback.judges, number {number}"), judge));
        let mut opened = Self(Vec::new());
        for (place, JudgeModel { model, name }) in endpoint.chain(judges) {
            let digest = opened
                .open(&reader.model(model), name.as_deref(), Judging::new(config, templates))
                .with_context(|| place.clone())?;
            reader.remember(&place, &digest);
        }
        Ok(opened)
    }

    /// Opens a single model.
    pub(crate) fn single(source: &str, name: Option<&str>, judging: Judging<'_>) -> Result<(Self, String)> {
        let mut opened = Self(Vec::new());
        let digest = opened.open(source, name, judging)?;
        Ok((opened, digest))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a model; gives its digest. One that cannot judge is refused now.
    fn open(&mut self, source: &str, name: Option<&str>, judging: Judging<'_>) -> Result<String> {
        let (model, digest) = if is_url(source) {
            let endpoint = model_source::open_endpoint(source, name)?.passing_over_long_prompts();
            let digest = endpoint.digest();
            (OpenedModel::Endpoint(endpoint), digest)
        } else {
            let model = model_source::open_folder(source, name)?;
            LocalJudge::new(&model, judging.templates, judging.critique, judging.engine)?;
            let digest = model.digest();
            (OpenedModel::Folder(Box::new(model)), digest)
        };
        self.0.push(model);
        Ok(digest)
    }

    /// Has the first of them choose aspects; `otherwise` does, if there are none. What an endpoint replies is kept in `store` as it
    /// comes.
    pub(crate) fn ask_chooser<R>(
        &mut self,
        otherwise: Option<LocalPolicy<'_>>,
        engine: EngineOptions,
        (store, iteration): (SharedStore<'_>, u32),
        ask: impl FnOnce(&mut dyn Policy) -> rlrf_method::Result<R>,
    ) -> Result<R> {
        Ok(match (self.0.first_mut(), otherwise) {
            (Some(OpenedModel::Endpoint(policy)), _) => {
                ask(&mut KeptPolicy { policy, store, iteration, stage: REPLIES })?
            }
            (Some(OpenedModel::Folder(model)), _) => ask(&mut LocalPolicy::new(model, engine)?)?,
            (None, Some(mut policy)) => ask(&mut policy)?,
            (None, None) => bail!("nobody chooses aspects: name a feedback model"),
        })
    }

    /// The judge that they are: a panel, if there are several; none, if there are none. What an endpoint replies is kept in
    /// `store` as it comes.
    pub(crate) fn judge<'a>(
        &'a mut self,
        judging: Judging<'a>,
        store: SharedStore<'a>,
        iteration: u32,
    ) -> Result<Option<Box<dyn Judge + 'a>>> {
        let Judging { templates, critique, engine } = judging;
        let mut judges: Vec<Box<dyn Judge + 'a>> = Vec::with_capacity(self.0.len());
        for model in &mut self.0 {
            judges.push(match model {
                OpenedModel::Folder(model) => Box::new(LocalJudge::new(model, templates, critique, engine)?),
                OpenedModel::Endpoint(policy) => {
                    let kept = KeptPolicy { policy, store, iteration, stage: REPLIES };
                    let sampling = Sampling {
                        temperature: critique.temperature,
                        ..Sampling::greedy(critique.max_new_tokens + VERDICT_TOKENS)
                    };
                    Box::new(TextJudge::new(Box::new(kept), templates, sampling))
                }
            });
        }
        Ok(match judges.len() {
            0 | 1 => judges.pop(),
            _ => Some(Box::new(Panel::new(judges))),
        })
    }
}

/// The judge that `feedback.source` names; `policy` is the one that is being improved, `feedback` the feedback model
/// where there is one of its own.
pub(crate) fn judge<'a>(
    config: &'a Config,
    inputs: &'a RunInputs,
    (policy, feedback): (&LocalPolicy<'a>, Option<&'a Model>),
    models: &'a mut JudgeModels,
    store: SharedStore<'a>,
    iteration: u32,
) -> Result<Box<dyn Judge + 'a>> {
    let judging = Judging::new(config, &inputs.templates);
    let Judging { templates, critique, engine } = judging;
    let opened = models.judge(judging, store, iteration)?;
    let judge: Box<dyn Judge + 'a> = match (opened, config.feedback.source, feedback, &inputs.checker) {
        (Some(judge), ..) => judge,
        (None, FeedbackOrigin::Checker, _, Some(checker)) => Box::new(CheckerJudge(checker.as_ref())),
        (None, FeedbackOrigin::Model, Some(model), _) => {
            Box::new(LocalJudge::new(model, templates, critique, engine)?)
        }
        _ => Box::new(LocalJudge::of_policy(policy, templates, critique)?),
    };
    // With `source = "checker"` the configuration refuses what is looked up for a model.
    let grounded = grounded(judge, inputs.grounding.as_ref());
    Ok(dispatched(Some(grounded), &inputs.aspect_checkers))
}

/// Refuses to go on where the judge said nothing about anything, with its first reason.
pub(crate) fn refuse_silence(groups: &[CandidateGroup]) -> Result<()> {
    let feedback = || groups.iter().flat_map(|group| &group.candidates).flat_map(|c| &c.feedback);
    if feedback().any(|feedback| feedback.level.is_some()) {
        return Ok(());
    }
    match feedback().next().map(|feedback| (&feedback.aspect, &feedback.parse)) {
        Some((aspect, ParseOutcome::Failed(reason))) => bail!(
            "nobody could be judged: of {} judgements none has a level; the first, on {aspect}: {reason}",
            feedback().count()
        ),
        _ => Ok(()),
    }
}

/// `judge`, shown what was looked up.
pub(crate) fn grounded<'a>(
    judge: Box<dyn Judge + 'a>,
    grounding: Option<&'a Grounding>,
) -> Box<dyn Judge + 'a> {
    match grounding {
        Some(grounding) => Box::new(GroundedJudge { judge, grounding }),
        None => judge,
    }
}

/// `judge`, for the aspects that have no checker of their own.
pub(crate) fn dispatched<'a>(
    judge: Option<Box<dyn Judge + 'a>>,
    checkers: &'a AspectCheckers,
) -> Box<dyn Judge + 'a> {
    match judge {
        Some(judge) if checkers.is_empty() => judge,
        judge => Box::new(DispatchJudge { judge, checkers }),
    }
}
