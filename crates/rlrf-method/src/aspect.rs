//! Aspects and their rubrics: data that users copy, edit and extend; nothing in the code names an aspect.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::feedback::LEVELS;

/// The eight aspects of the paper, in the project's wording.
pub const DEFAULT_ASPECTS: &str = include_str!("../data/aspects.toml");

/// A judgement as a whole, on no aspect: for methods and ablations without fine-grained feedback. It is known beside the
/// aspects of every file, and part of none.
pub const OVERALL_ASPECT: &str = include_str!("../data/overall.toml");

/// One quality axis with its rubric: a criterion question and the descriptions of the levels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Aspect {
    /// Name, such as `logical correctness`.
    pub name: String,
    /// The criterion question.
    pub criterion: String,
    /// What level 1, 2 and 3 mean.
    pub levels: [String; LEVELS],
    /// Weight in a candidate's score.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    aspect: Vec<Aspect>,
}

impl Aspect {
    /// Reads a TOML file of `[[aspect]]` tables.
    ///
    /// # Errors
    /// Names the file and what is wrong: syntax, a missing field, a name used twice, an empty text, a bad weight.
    pub fn read_toml(file: &str, text: &str) -> Result<Vec<Self>> {
        let bad = |message: String| Error::Input { file: file.to_string(), message };
        let aspects =
            toml::from_str::<File>(text).map_err(|e| bad(e.to_string().trim_end().to_string()))?.aspect;
        for (index, aspect) in aspects.iter().enumerate() {
            let texts = aspect.levels.iter().chain([&aspect.name, &aspect.criterion]);
            if texts.clone().any(|text| text.trim().is_empty()) {
                return Err(bad(format!(
                    "aspect {}: name, criterion and levels must not be empty ({:?})",
                    index + 1,
                    aspect.name
                )));
            }
            if !aspect.weight.is_finite() || aspect.weight <= 0.0 {
                return Err(bad(format!(
                    "aspect {:?}: weight {} must be above 0",
                    aspect.name, aspect.weight
                )));
            }
            if aspects[..index].iter().any(|other| other.name == aspect.name) {
                return Err(bad(format!("aspect {:?} is given twice", aspect.name)));
            }
        }
        Ok(aspects)
    }

    /// The aspects named by `names`, in that order.
    ///
    /// # Errors
    /// A name that is not there, with the names that are.
    pub fn choose(aspects: &[Self], names: &[String]) -> Result<Vec<Self>> {
        let overall = Self::read_toml("overall.toml", OVERALL_ASPECT)?;
        names
            .iter()
            .map(|name| {
                aspects.iter().chain(&overall).find(|aspect| &aspect.name == name).cloned().ok_or_else(|| {
                    Error::Config {
                        field: "feedback.aspects".into(),
                        value: format!("{name:?}"),
                        message: format!(
                            "no such aspect; there are {}",
                            aspects.iter().map(|a| a.name.as_str()).collect::<Vec<_>>().join(", ")
                        ),
                    }
                })
            })
            .collect()
    }
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
    fn an_unknown_field_or_a_double_name_is_an_error() {
        let aspect = "[[aspect]]\nname='a'\ncriterion='c'\nlevels=['1','2','3']\n";
        assert!(
            Aspect::read_toml("f", &format!("{aspect}weigth=2")).unwrap_err().to_string().contains("weigth")
        );
        assert!(
            Aspect::read_toml("f", &format!("{aspect}{aspect}")).unwrap_err().to_string().contains("twice")
        );
    }
}
