//! Prompts for word problems: named and versioned files, built in.

use rlrf_method::digest::digest;
use rlrf_method::{Error, Message, Result};
use serde::{Deserialize, Serialize};

/// Name of the template that is used where none is named.
pub const DEFAULT_TEMPLATE: &str = "chat";

/// The built-in templates.
const TEMPLATES: [&str; 4] = [
    include_str!("../../templates/chat.toml"),
    include_str!("../../templates/cot.toml"),
    include_str!("../../templates/cot-turns.toml"),
    include_str!("../../templates/question.toml"),
];

/// The built-in worked examples.
const EXEMPLARS: [(&str, &str); 1] = [("wei-2022", include_str!("../../templates/wei-2022.toml"))];

/// How the worked examples stand in the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Form {
    /// All in one user's message, before the question.
    Message,
    /// As turns before it.
    Turns,
}

/// A worked example.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exemplar {
    question: String,
    reasoning: String,
    answer: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExemplarFile {
    exemplar: Vec<Exemplar>,
}

/// How a problem is put to a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Name, for `--template`.
    pub name: String,
    /// Raised whenever its text changes.
    pub version: u32,
    form: Form,
    question: String,
    #[serde(default)]
    answer: String,
    #[serde(default)]
    exemplars: Option<String>,
    /// Texts that end a response, and are cut off.
    #[serde(default)]
    pub stop: Vec<String>,
    #[serde(skip)]
    examples: Vec<Exemplar>,
}

impl Template {
    /// The names of the built-in templates.
    ///
    /// # Errors
    /// Never: the built-in files are read by the tests.
    pub fn names() -> Result<Vec<String>> {
        TEMPLATES.iter().map(|text| Ok(Self::read(text)?.name)).collect()
    }

    /// The template of this name with its first `shots` worked examples, or all that it has.
    ///
    /// # Errors
    /// No template has the name; it has fewer examples.
    pub fn named(name: &str, shots: Option<usize>) -> Result<Self> {
        let mut known = Vec::new();
        for text in TEMPLATES {
            let mut template = Self::read(text)?;
            if template.name != name {
                known.push(template.name);
                continue;
            }
            let there = template.examples.len();
            let shots = shots.unwrap_or(there);
            if shots > there {
                let message =
                    format!("has {there} worked examples, not {shots}; give --shots {there} or fewer");
                return Err(Error::Template { name: name.into(), message });
            }
            template.examples.truncate(shots);
            return Ok(template);
        }
        Err(Error::Template {
            name: name.into(),
            message: format!("there is none; there are {}", known.join(", ")),
        })
    }

    fn read(text: &str) -> Result<Self> {
        let failed = |message: String| Error::Template { name: "built in".into(), message };
        let mut template: Self = toml::from_str(text).map_err(|e| failed(e.to_string()))?;
        if let Some(name) = &template.exemplars {
            let file = EXEMPLARS.iter().find(|(known, _)| known == name);
            let (_, file) = file.ok_or_else(|| failed(format!("{}: no examples {name:?}", template.name)))?;
            template.examples =
                toml::from_str::<ExemplarFile>(file).map_err(|e| failed(e.to_string()))?.exemplar;
        }
        Ok(template)
    }

    /// Worked examples in the prompt.
    #[must_use]
    pub fn shots(&self) -> usize {
        self.examples.len()
    }

    /// Identity of the prompt's text, examples included.
    #[must_use]
    pub fn digest(&self) -> String {
        digest(&(self, &self.examples))
    }

    /// The conversation that asks `question`.
    #[must_use]
    pub fn messages(&self, question: &str) -> Vec<Message> {
        let ask = |question: &str| self.question.replace("{question}", question);
        // The reasoning last: what is put in is never taken for a place to put something.
        let answer = |example: &Exemplar| {
            let text = self.answer.replace("{answer}", &example.answer);
            text.replace("{reasoning}", &example.reasoning)
        };
        match self.form {
            Form::Message => {
                let mut text = String::new();
                for example in &self.examples {
                    text.push_str(&ask(&example.question));
                    text.push_str(&answer(example));
                }
                vec![Message::user(text + &ask(question))]
            }
            Form::Turns => {
                let turns = self.examples.iter();
                let turns =
                    turns.flat_map(|e| [Message::user(ask(&e.question)), Message::assistant(answer(e))]);
                turns.chain([Message::user(ask(question))]).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::word_problems::number::{flexible, strict};

    #[test]
    fn every_template_asks_the_question_last_and_its_examples_are_read_as_answered() {
        for name in Template::names().unwrap() {
            let template = Template::named(&name, None).unwrap();
            let messages = template.messages("How {answer} many?");
            assert!(messages.last().unwrap().content.contains("How {answer} many?"), "{name}");
            assert_eq!(
                messages.len(),
                if template.form == Form::Turns { 2 * template.shots() + 1 } else { 1 }
            );
            for example in &template.examples {
                let text = template.answer.replace("{answer}", &example.answer);
                assert_eq!(strict(&text), flexible(&example.answer), "{name}");
                assert!(example.reasoning.contains(&example.answer), "{}", example.question);
            }
        }
    }

    #[test]
    fn the_few_shot_prompt_is_the_one_that_is_documented() {
        let text = &Template::named("cot", Some(1)).unwrap().messages("Why?")[0].content;
        assert!(text.starts_with("Q: There are 15 trees in the grove."), "{text}");
        assert!(text.ends_with("must have been 21 - 15 = 6.\n#### 6\n\nQ: Why?\nA:"), "{text}");
    }

    #[test]
    fn what_there_is_not_is_named() {
        let message = |name, shots| Template::named(name, shots).unwrap_err().to_string();
        assert!(message("cott", None).contains("chat, cot, cot-turns, question"));
        assert!(message("cot", Some(9)).contains("8 worked examples"));
        assert!(message("chat", Some(1)).contains("0 worked examples"));
        assert_ne!(
            Template::named("cot", Some(3)).unwrap().digest(),
            Template::named("cot", Some(4)).unwrap().digest()
        );
    }
}
