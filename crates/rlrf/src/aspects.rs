//! The aspects that a configuration judges on: from its file, with its weights and checkers.

use anyhow::{Context, Result, bail};
use rlrf_method::aspect::is_weight;
use rlrf_method::config::ChooseConfig;
use rlrf_method::dispatch::AspectCheckers;
use rlrf_method::{Aspect, CheckerConfig};

use crate::config::FeedbackConfig;

/// The aspects of a file, whose checkers can be made.
pub(crate) fn read(file: &str, text: &str) -> Result<Vec<Aspect>> {
    let check = |config: &CheckerConfig| rlrf_checkers::checker(config).map(drop);
    Ok(Aspect::read_toml_with(file, text, &check)?)
}

/// Those of `all` that are judged.
pub(crate) fn configured(all: &[Aspect], feedback: &FeedbackConfig) -> Result<Vec<Aspect>> {
    let mut aspects = Aspect::choose(all, &feedback.aspects)?;
    for (name, &weight) in &feedback.weights {
        if !is_weight(weight) {
            bail!("configuration: feedback.weights: {name:?} = {weight}: must be above 0");
        }
        named("feedback.weights", name, &mut aspects)?.weight = weight;
    }
    for (name, config) in &feedback.checkers {
        rlrf_checkers::checker(config)
            .with_context(|| format!("configuration: feedback.checkers: {name:?}"))?;
        named("feedback.checkers", name, &mut aspects)?.checker = Some(config.clone());
    }
    Ok(aspects)
}

fn named<'a>(setting: &str, name: &str, aspects: &'a mut [Aspect]) -> Result<&'a mut Aspect> {
    match aspects.iter().position(|aspect| aspect.name == name) {
        Some(place) => Ok(&mut aspects[place]),
        None => {
            let judged: Vec<&str> = aspects.iter().map(|aspect| aspect.name.as_str()).collect();
            bail!(
                "configuration: {setting}: {name:?} is not among feedback.aspects ({}): name it there, or take it out here",
                judged.join(", ")
            )
        }
    }
}

/// The checkers of those that have one.
pub(crate) fn checkers(aspects: &[Aspect]) -> Result<AspectCheckers> {
    let decided = aspects.iter().filter_map(|aspect| Some((aspect, aspect.checker.as_ref()?)));
    decided.map(|(aspect, config)| Ok((aspect.name.clone(), rlrf_checkers::checker(config)?))).collect()
}

/// Refuses a choice among too few aspects.
pub(crate) fn check_choice(choose: Option<&ChooseConfig>, aspects: &[Aspect]) -> Result<()> {
    let candidates = aspects.iter().filter(|aspect| aspect.checker.is_none()).count();
    Ok(choose.map_or(Ok(()), |choose| choose.validate(candidates))?)
}
