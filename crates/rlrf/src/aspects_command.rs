//! `rlrf aspects list` and `rlrf aspects check`.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use rlrf_method::Aspect;
use rlrf_method::aspect::DEFAULT_ASPECTS;

use crate::arguments::{AspectsCheckOptions, AspectsListOptions};
use crate::{aspects, console};

pub(crate) fn list(options: &AspectsListOptions, json: bool) -> Result<()> {
    let aspects = match &options.file {
        Some(file) => read(file)?,
        None => aspects::read("aspects.toml", DEFAULT_ASPECTS)?,
    };
    if json {
        return Ok(console::print(&serde_json::to_string_pretty(&aspects)?)?);
    }
    let described = aspects.iter().map(describe).collect::<Result<Vec<_>>>()?;
    Ok(console::print(&described.join("\n\n"))?)
}

pub(crate) fn check(options: &AspectsCheckOptions, json: bool) -> Result<()> {
    let aspects = read(&options.file)?;
    if json {
        return Ok(console::print(&serde_json::to_string_pretty(&aspects)?)?);
    }
    let names: Vec<&str> = aspects.iter().map(|aspect| aspect.name.as_str()).collect();
    let decided = aspects.iter().filter(|aspect| aspect.checker.is_some()).count();
    Ok(console::print(&format!(
        "{} aspects, {decided} of them decided by a checker: {}",
        aspects.len(),
        names.join(", ")
    ))?)
}

fn read(file: &Path) -> Result<Vec<Aspect>> {
    let bytes = std::fs::read(file).with_context(|| format!("{}: cannot read", file.display()))?;
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("{}: not UTF-8", file.display()))?;
    aspects::read(&file.display().to_string(), &text)
}

fn describe(aspect: &Aspect) -> Result<String> {
    let mut lines =
        vec![format!("{} (weight {})", aspect.name, aspect.weight), format!("  {}", aspect.criterion)];
    lines.extend((1..).zip(&aspect.levels).map(|(level, text)| format!("  {level}  {text}")));
    if let Some(checker) = &aspect.checker {
        lines.push(format!("  decided by {}", serde_json::to_string(checker)?));
    }
    Ok(lines.join("\n"))
}
