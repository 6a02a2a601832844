//! Aspects and their rubrics: data that users copy, edit and extend; nothing in the code names an aspect.

use serde::{Deserialize, Serialize};
use toml::Spanned;

use crate::checker_config::CheckerConfig;
use crate::error::{Error, Result};
use crate::feedback::LEVELS;
use crate::toml_error::{line_at, nearest, toml_error};

/// The eight aspects of the paper, in the project's wording.
pub const DEFAULT_ASPECTS: &str = include_str!("../data/aspects.toml");

/// A judgement as a whole, on no aspect: for methods and ablations without fine-grained feedback. It is known beside the
/// aspects of every file, and part of none.
pub const OVERALL_ASPECT: &str = include_str!("../data/overall.toml");

/// One quality axis with its rubric: a criterion question and the descriptions of the levels.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Aspect {
    /// Name, such as `logical correctness`.
    pub name: String,
    /// The criterion question.
    pub criterion: String,
    /// What level 1, 2 and 3 mean.
    pub levels: [String; LEVELS],
    /// Weight in a candidate's score.
    pub weight: f64,
    /// What decides it in place of the feedback model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checker: Option<CheckerConfig>,
}

/// An aspect as its file has it, with the place of every field.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Spanned<String>,
    criterion: Spanned<String>,
    levels: Spanned<Vec<String>>,
    weight: Option<Spanned<f64>>,
    checker: Option<Spanned<CheckerConfig>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    aspect: Vec<Entry>,
}

impl Entry {
    /// The aspect, or the byte and the message of what is wrong.
    fn aspect(self, check: CheckConfig<'_>) -> std::result::Result<Aspect, (usize, String)> {
        let name = self.name.as_ref().trim();
        let bad = |byte: usize, message: String| Err((byte, format!("aspect {name:?}: {message}")));
        for (field, text) in [("name", &self.name), ("criterion", &self.criterion)] {
            if text.as_ref().trim().is_empty() {
                return bad(text.span().start, format!("`{field}` is empty"));
            }
        }
        let place = self.levels.span().start;
        let Ok(levels) = <[String; LEVELS]>::try_from(self.levels.as_ref().clone()) else {
            let found = self.levels.as_ref().len();
            return bad(place, format!("`levels` has {found} texts: describe the three levels 1, 2 and 3"));
        };
        if let Some(level) = levels.iter().position(|text| text.trim().is_empty()) {
            return bad(place, format!("`levels`: the text of level {} is empty", level + 1));
        }
        let weight = self.weight.as_ref().map_or(1.0, |weight| *weight.as_ref());
        if !is_weight(weight) {
            let place = self.weight.as_ref().map_or(0, |weight| weight.span().start);
            return bad(place, format!("`weight` = {weight}: must be above 0"));
        }
        if let Some(checker) = &self.checker
            && let Err(error) = check(checker.as_ref())
        {
            return bad(checker.span().start, error.to_string());
        }
        Ok(Aspect {
            name: name.to_string(),
            criterion: self.criterion.as_ref().clone(),
            levels,
            weight,
            checker: self.checker.map(Spanned::into_inner),
        })
    }
}

/// Says what is wrong with a checker's settings.
pub type CheckConfig<'a> = &'a dyn Fn(&CheckerConfig) -> Result<()>;

/// Whether a weight is a finite number above 0.
#[must_use]
pub fn is_weight(weight: f64) -> bool {
    weight.is_finite() && weight > 0.0
}

impl Aspect {
    /// Reads a TOML file of `[[aspect]]` tables; settings of checkers are taken as they are.
    ///
    /// # Errors
    /// As [`Aspect::read_toml_with`].
    pub fn read_toml(file: &str, text: &str) -> Result<Vec<Self>> {
        Self::read_toml_with(file, text, &|_| Ok(()))
    }

    /// Reads a TOML file of `[[aspect]]` tables, whose checkers `check` accepts.
    ///
    /// # Errors
    /// Names file, line and field of what is wrong: syntax, an unknown or missing field, a name used twice, an empty text,
    /// other than three levels, a bad weight, what `check` says.
    pub fn read_toml_with(file: &str, text: &str, check: CheckConfig<'_>) -> Result<Vec<Self>> {
        let entries = toml::from_str::<File>(text).map_err(|error| toml_error(file, text, &error))?.aspect;
        let bad = |(byte, message): (usize, String)| Error::Record {
            file: file.to_string(),
            line: line_at(text, byte),
            message,
        };
        let mut aspects: Vec<Self> = Vec::with_capacity(entries.len());
        let mut places: Vec<usize> = Vec::with_capacity(entries.len());
        for entry in entries {
            let place = entry.name.span().start;
            let aspect = entry.aspect(check).map_err(bad)?;
            if let Some(first) = aspects.iter().position(|other| other.name == aspect.name) {
                let line = line_at(text, places[first]);
                return Err(bad((
                    place,
                    format!("aspect {:?} is given on line {line} already", aspect.name),
                )));
            }
            aspects.push(aspect);
            places.push(place);
        }
        if aspects.is_empty() {
            return Err(bad((0, "holds no aspect: begin one with [[aspect]]".into())));
        }
        Ok(aspects)
    }

    /// What a judgement depends on: all but the weight, which is 1.
    #[must_use]
    pub fn rubric(&self) -> Self {
        Self { weight: 1.0, ..self.clone() }
    }

    /// The aspects named by `names`, in that order.
    ///
    /// # Errors
    /// A name that is not there, with the names that are.
    pub fn choose(aspects: &[Self], names: &[String]) -> Result<Vec<Self>> {
        let overall = Self::read_toml("overall.toml", OVERALL_ASPECT)?;
        if let Some(twice) = names.iter().enumerate().find(|(place, name)| names[..*place].contains(name)) {
            return Err(Error::Config {
                field: "feedback.aspects".into(),
                value: format!("{:?}", twice.1),
                message: "is named twice".into(),
            });
        }
        names
            .iter()
            .map(|name| {
                aspects.iter().chain(&overall).find(|aspect| &aspect.name == name).cloned().ok_or_else(|| {
                    Error::Config {
                        field: "feedback.aspects".into(),
                        value: format!("{name:?}"),
                        message: no_such_aspect(name, aspects),
                    }
                })
            })
            .collect()
    }
}

/// Says that `name` is none of `aspects`, which there are, and which may have been meant.
#[must_use]
pub fn no_such_aspect(name: &str, aspects: &[Aspect]) -> String {
    let names: Vec<&str> = aspects.iter().map(|aspect| aspect.name.as_str()).collect();
    let meant = nearest(name, names.iter().copied()).map(|name| format!("; did you mean {name:?}?"));
    format!("no such aspect; there are {}{}", names.join(", "), meant.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_holds_the_eight_aspects_of_the_paper() {
        let aspects = Aspect::read_toml("aspects.toml", DEFAULT_ASPECTS).unwrap();
        let names: Vec<_> = aspects.iter().map(|a| a.name.as_str()).collect();
        assert_eq!(
            names,
            [
                "logical correctness",
                "factuality",
                "insightfulness",
                "completeness",
                "metacognition",
                "readability",
                "conciseness",
                "harmlessness"
            ]
        );
        let chosen = Aspect::choose(&aspects, &["conciseness".into()]).unwrap();
        assert_eq!(chosen[0].name, "conciseness");
        assert!(
            Aspect::choose(&aspects, &["speed".into()])
                .unwrap_err()
                .to_string()
                .contains("there are logical")
        );
    }

    #[test]
    fn garbage_names_line_and_field() {
        let aspect = "[[aspect]]\nname = 'a'\ncriterion = 'c'\nlevels = ['1', '2', '3']\n";
        for (text, expected) in [
            (format!("{aspect}weigth = 2"), "f:5: unknown field `weigth`"),
            (format!("{aspect}weigth = 2"), "did you mean `weight`?"),
            (format!("{aspect}weight = 0"), "f:5: aspect \"a\": `weight` = 0: must be above 0"),
            (format!("{aspect}weight = inf"), "f:5: aspect \"a\": `weight` = inf"),
            (format!("{aspect}weight = 'x'"), "f:5: invalid type: string"),
            (format!("{aspect}{aspect}"), "f:6: aspect \"a\" is given on line 2 already"),
            (aspect.replace("'a'", "' '"), "f:2: aspect \"\": `name` is empty"),
            (aspect.replace("'c'", "''"), "f:3: aspect \"a\": `criterion` is empty"),
            (aspect.replace(", '3'", ""), "f:4: aspect \"a\": `levels` has 2 texts"),
            (aspect.replace("'2'", "''"), "f:4: aspect \"a\": `levels`: the text of level 2 is empty"),
            (aspect.replace("criterion = 'c'", ""), "f:1: missing field `criterion`"),
            (aspect.replace("[[aspect]]", "[[aspects]]"), "f:1: unknown field `aspects`"),
            ("aspect = []".into(), "f:1: holds no aspect"),
            (format!("{aspect}checker = 'number'"), "f:5: "),
            (format!("{aspect}checker = {{ kind = 'numbr' }}"), "did you mean `number`?"),
            (
                format!("{aspect}checker = {{ kind = 'number', tolerence = 1 }}"),
                "f:5: unknown field `tolerence`",
            ),
            (format!("{aspect}checker = {{ kind = 'arithmetic', x = 1 }}"), "f:5: unknown field `x`"),
            (format!("{aspect}checker = {{ tolerance = 1 }}"), "f:5: missing field `kind`"),
        ] {
            let message = Aspect::read_toml("f", &text).unwrap_err().to_string();
            assert!(message.contains(expected), "{message} does not contain {expected}");
        }
        let refuse = |config: &CheckerConfig| Err(Error::Backend(format!("refused {config:?}")));
        let text = format!("{aspect}\nchecker = {{ kind = 'number', tolerance = 1 }}");
        let message = Aspect::read_toml_with("f", &text, &refuse).unwrap_err().to_string();
        assert!(message.starts_with("f:6: aspect \"a\": refused Number"), "{message}");
    }
}
