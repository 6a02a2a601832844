//! The resolved configuration of a run: written once, then compared.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use toml::{Table, Value};

use crate::error::Error;
use crate::file::write_atomically;

/// Name of the configuration's file, and of the artifact that holds its digest.
pub(crate) const CONFIGURATION_FILE: &str = "run.toml";

/// Characters of a value that a message shows.
const SHOWN: usize = 80;

/// A key whose value is not the one that the run was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Dotted path of the key; members of arrays of tables by index, as in `aspects[0].name`.
    pub key: String,
    /// The run's value as TOML; absent if the key is new.
    pub old: Option<String>,
    /// The present value as TOML; absent if the key is gone.
    pub new: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<String>| value.as_deref().map_or_else(|| "(absent)".to_owned(), shorten);
        write!(formatter, "{}: {} -> {}", self.key, shown(&self.old), shown(&self.new))
    }
}

/// The configuration text of the run in `folder`, if it has one.
pub(crate) fn read(folder: &Path) -> Result<Option<String>, Error> {
    let path = folder.join(CONFIGURATION_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(Error::File { action: "read", path, cause }),
    }
}

/// Writes the configuration of a new run.
pub(crate) fn write(folder: &Path, text: &str) -> Result<(), Error> {
    parse(text, || "the resolved configuration".to_owned())?;
    write_atomically(folder.join(CONFIGURATION_FILE), text.as_bytes())
}

/// Refuses `new` unless it has the values of the run's own configuration, `old`. Comments and layout may differ.
pub(crate) fn compare(folder: &Path, old: &str, new: &str) -> Result<(), Error> {
    let old = parse(old, || folder.join(CONFIGURATION_FILE).display().to_string())?;
    let new = parse(new, || "the resolved configuration".to_owned())?;
    let differences = differences(&old, &new);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::ConfigurationChanged { folder: folder.to_path_buf(), differences })
}

fn parse(text: &str, origin: impl FnOnce() -> String) -> Result<Table, Error> {
    toml::from_str(text)
        .map_err(|cause| Error::ConfigurationInvalid { origin: origin(), cause: Box::new(cause) })
}

fn differences(old: &Table, new: &Table) -> Vec<Difference> {
    let mut old = flatten(old);
    let mut differences = Vec::new();
    for (key, new) in flatten(new) {
        let old = old.remove(&key);
        if old.as_ref() != Some(&new) {
            differences.push(Difference { key, old, new: Some(new) });
        }
    }
    differences.extend(old.into_iter().map(|(key, old)| Difference { key, old: Some(old), new: None }));
    differences.sort_by(|left, right| left.key.cmp(&right.key));
    differences
}

/// Every leaf under its dotted path. Empty tables and arrays are leaves: their presence may mean something.
fn flatten(table: &Table) -> BTreeMap<String, String> {
    let mut leaves = BTreeMap::new();
    for (key, value) in table {
        flatten_into(&mut leaves, quote(key), value);
    }
    leaves
}

fn flatten_into(leaves: &mut BTreeMap<String, String>, path: String, value: &Value) {
    match value {
        Value::Table(table) if !table.is_empty() => {
            for (key, value) in table {
                flatten_into(leaves, format!("{path}.{}", quote(key)), value);
            }
        }
        Value::Array(values) if values.iter().any(Value::is_table) => {
            for (index, value) in values.iter().enumerate() {
                flatten_into(leaves, format!("{path}[{index}]"), value);
            }
        }
        leaf => {
            leaves.insert(path, leaf.to_string());
        }
    }
}

/// A key as TOML writes it, so that a dot within a key is no separator.
fn quote(key: &str) -> String {
    let bare = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '-';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { format!("{key:?}") }
}

/// One line of a value, cut where a message would grow out of hand.
fn shorten(value: &str) -> String {
    let line = value.replace('\n', "\\n");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(old: &str, new: &str) -> Vec<String> {
        let differences = differences(&toml::from_str(old).unwrap(), &toml::from_str(new).unwrap());
        differences.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_changed_new_and_removed_keys() {
        let old = "seed = 1\n[train]\nbeta = 0.1\nsteps = 10\n[train.\"a.b\"]\nc = \"x\"\n";
        let new = "seed = 1\n[train]\nbeta = 0.2\nrate = 1e-4\n[train.\"a.b\"]\nc = \"y\"\n";
        assert_eq!(
            compared(old, new),
            [
                "train.\"a.b\".c: \"x\" -> \"y\"",
                "train.beta: 0.1 -> 0.2",
                "train.rate: (absent) -> 0.0001",
                "train.steps: 10 -> (absent)",
            ]
        );
    }

    #[test]
    fn walks_into_arrays_of_tables() {
        let old = "[[aspects]]\nname = \"factuality\"\n";
        let new = "[[aspects]]\nname = \"clarity\"\n[[aspects]]\nname = \"depth\"\n";
        assert_eq!(
            compared(old, new),
            ["aspects[0].name: \"factuality\" -> \"clarity\"", "aspects[1].name: (absent) -> \"depth\""]
        );
    }

    #[test]
    fn an_integer_is_not_a_float_and_an_empty_table_is_not_nothing() {
        assert_eq!(compared("a = 1", "a = 1.0"), ["a: 1 -> 1.0"]);
        assert_eq!(compared("[a]", "").len(), 1);
        assert_eq!(compared("a = []", "").len(), 1);
    }

    #[test]
    fn comments_and_layout_do_not_matter() {
        assert!(compared("a.b = [1, 2]\nc = nan", "c = nan # why\n[a]\nb = [1,\n2]\n").is_empty());
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        let long = shorten(&format!("line\n{}", "é".repeat(200)));
        assert!(long.starts_with("line\\né") && long.ends_with("...") && long.chars().count() == SHOWN + 3);
    }
}
