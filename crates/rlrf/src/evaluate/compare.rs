//! `rlrf eval compare`: a paired test between two evaluations that were kept in folders.

use std::path::Path;

use anyhow::{Context, Result};
use rlrf_eval::compare::compare;
use rlrf_eval::{Item, Outcome};
use rlrf_method::instruction::records;

use crate::arguments::CompareOptions;
use crate::console;

pub(super) fn eval(options: &CompareOptions, json: bool) -> Result<()> {
    let comparison = compare(&read(&options.first)?, &read(&options.second)?)?;
    let text = match json {
        true => serde_json::to_string_pretty(&comparison)?,
        false => rlrf_report::comparison_table(&comparison).trim_end().to_string(),
    };
    Ok(console::print(&text)?)
}

/// An evaluation's folder as it was written.
fn read(folder: &Path) -> Result<Outcome> {
    let read = |name: &str| {
        let file = folder.join(name);
        let found = std::fs::read(&file);
        let bytes = found.with_context(|| {
            format!("{}: cannot read; give the folder of a finished evaluation", file.display())
        })?;
        Ok::<_, anyhow::Error>((file.display().to_string(), bytes))
    };
    let (file, bytes) = read("evaluation.json")?;
    let evaluation = serde_json::from_slice(&bytes).with_context(|| file.clone())?;
    let (file, bytes) = read("items.jsonl")?;
    let items = records::<Item>(&file, &bytes)?.map(|item| Ok(item?.1)).collect::<Result<Vec<_>>>()?;
    Ok(Outcome { evaluation, items })
}
