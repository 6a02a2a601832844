//! Chat templates (Jinja, as in Hugging Face) that never let message text become control tokens.
//!
//! A template is rendered with a placeholder in place of each message's text; special tokens are then recognised in
//! what the template itself wrote, and nowhere else. Text between two special tokens is tokenised as one run, so the
//! ids are those of transformers' `apply_chat_template` wherever no message spells a special token.

use minijinja::{Environment, ErrorKind, context};
use serde_json::{Map, Value};

use crate::tokenizer::Segment;
use crate::{Error, Result, Tokenizer};

/// What a model without a chat template is given: the messages as lines.
const FALLBACK: &str = "{% for m in messages %}{{ m.content }}\n{% endfor %}";

/// Placeholders are a message's number between these two; templates and contents have no use for them.
const OPEN: char = '\u{F8F0}';
const CLOSE: char = '\u{F8F1}';

/// The time that templates are told: Llama 3's own default day. A run's prompts must not change overnight.
const CLOCK: [(&str, &str); 12] = [
    ("%Y", "2024"),
    ("%y", "24"),
    ("%m", "07"),
    ("%d", "26"),
    ("%b", "Jul"),
    ("%B", "July"),
    ("%a", "Fri"),
    ("%A", "Friday"),
    ("%j", "208"),
    ("%H", "00"),
    ("%M", "00"),
    ("%S", "00"),
];

/// One message of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChatMessage<'a> {
    /// `system`, `user` or `assistant`.
    pub role: &'a str,
    /// The text; data, never markup.
    pub content: &'a str,
}

/// A compiled chat template.
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos_token: String,
    eos_token: String,
    fallback: bool,
    end_of_turn: u32,
    /// White space that the template puts before an assistant's text and that is not in the generation prompt.
    lead: String,
    /// Whether a generation prompt ends in plain text, which the response then goes on.
    continues_text: bool,
}

impl ChatTemplate {
    /// Compiles the template of a model folder: `jinja` is `chat_template.jinja` (it wins), `tokenizer_config` the object of
    /// `tokenizer_config.json`; `bos_token` and `eos_token` are what templates know under these names. A model without a
    /// template gets a plain one that writes each message on a line of its own; see [`ChatTemplate::has_template`].
    ///
    /// # Errors
    /// The template does not compile, cannot render a user's and an assistant's message, or there is neither a special token
    /// after the assistant's text nor an end-of-sequence token to end a turn.
    pub fn new(
        jinja: Option<&str>,
        tokenizer_config: &Map<String, Value>,
        bos_token: Option<&str>,
        eos_token: Option<&str>,
        tokenizer: &Tokenizer,
    ) -> Result<Self> {
        let found = match jinja {
            Some(source) => Some(source.to_owned()),
            None => configured_source(tokenizer_config)?,
        };
        let fallback = found.is_none();
        let source = match found {
            Some(source) => source,
            None if tokenizer.start_tokens()?.is_empty() => FALLBACK.to_owned(),
            None => format!("{{{{ bos_token }}}}{FALLBACK}"),
        };
        let mut template = Self {
            environment: environment(&source)?,
            source,
            bos_token: bos_token.unwrap_or_default().to_owned(),
            eos_token: eos_token.unwrap_or_default().to_owned(),
            fallback,
            end_of_turn: 0,
            lead: String::new(),
            continues_text: false,
        };
        template.learn_turns(tokenizer)?;
        Ok(template)
    }

    /// Whether the model came with a chat template; if not, conversations are plain lines.
    pub fn has_template(&self) -> bool {
        !self.fallback
    }

    /// The template's source.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The text of the beginning-of-sequence token, empty if there is none.
    pub fn bos_token(&self) -> &str {
        &self.bos_token
    }

    /// The text of the end-of-sequence token, empty if there is none.
    pub fn eos_token(&self) -> &str {
        &self.eos_token
    }

    /// Token ids of the conversation with the generation prompt appended: what the model continues. Contents
    /// are trimmed, and special tokens in them stay plain text.
    ///
    /// # Errors
    /// A role other than `system`, `user` and `assistant`; a conversation that the template refuses or of which it drops a
    /// message.
    pub fn prompt(&self, tokenizer: &Tokenizer, messages: &[ChatMessage<'_>]) -> Result<Vec<u32>> {
        let rendered = self.render(messages, true)?;
        let pieces = split(&rendered, messages.len())?;
        for (number, message) in messages.iter().enumerate() {
            let dropped =
                !pieces.iter().any(|piece| matches!(piece, Piece::Content(found) if *found == number));
            if dropped && !message.content.trim().is_empty() {
                let role = message.role;
                let advice =
                    "give its text to a role that the template knows, such as the first user message";
                return Err(Error::Template(format!("drops message {number} (role `{role}`); {advice}")));
            }
        }
        let segments: Vec<_> = (pieces.iter())
            .map(|piece| match piece {
                Piece::Markup(text) => Segment::Markup(text),
                Piece::Content(number) => Segment::Data(messages[*number].content.trim()),
            })
            .collect();
        tokenizer.encode_segments(&segments)
    }

    /// Token ids of a response as the model would have written it after [`ChatTemplate::prompt`]: the trimmed text, then the
    /// end-of-turn token.
    ///
    /// # Errors
    /// The tokenizer cannot represent the text.
    pub fn response(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
        let text = format!("{}{}", self.lead, text.trim());
        let mut tokens = if self.continues_text {
            tokenizer.encode_continuation(&text)?
        } else {
            tokenizer.encode_after_token(&text)?
        };
        tokens.push(self.end_of_turn);
        Ok(tokens)
    }

    /// The token that ends an assistant turn.
    pub fn end_of_turn(&self) -> u32 {
        self.end_of_turn
    }

    /// Finds out how the template writes an assistant's turn, from a conversation of two messages.
    fn learn_turns(&mut self, tokenizer: &Tokenizer) -> Result<()> {
        let [user, assistant] = ["user", "assistant"].map(|role| ChatMessage { role, content: "text" });
        let prompt = self.render(&[user], true)?;
        let conversation = self.render(&[user, assistant], false)?;
        split(&conversation, 2)?;
        let Some((before, after)) = conversation.split_once(&placeholder(1)) else {
            return Err(Error::Template("drops the assistant's message".to_owned()));
        };
        let closing = split(after, 2)?.iter().find_map(|piece| match piece {
            Piece::Markup(text) => (tokenizer.split_markup(text).into_iter())
                .find_map(|part| part.ok().filter(|&token| tokenizer.is_special(token))),
            Piece::Content(_) => None,
        });
        self.end_of_turn = closing.or_else(|| tokenizer.id(&self.eos_token)).ok_or_else(|| {
            let what = if self.fallback {
                "none found, and"
            } else {
                "writes no special token after the assistant's text, and"
            };
            let advice =
                "add `chat_template` (or chat_template.jinja) or `eos_token` to tokenizer_config.json";
            Error::Template(format!("{what} there is no end-of-sequence token to end a turn: {advice}"))
        })?;
        let lead = before.strip_prefix(prompt.as_str()).unwrap_or_default();
        self.lead = if lead.trim().is_empty() { lead.to_owned() } else { String::new() };
        self.continues_text = match split(&prompt, 1)?.last() {
            Some(Piece::Markup(text)) => {
                tokenizer.split_markup(text).last().is_some_and(|part| part.is_err())
            }
            Some(Piece::Content(_)) => true,
            None => false,
        };
        Ok(())
    }

    /// The conversation with placeholders for the contents that are not empty.
    fn render(&self, messages: &[ChatMessage<'_>], add_generation_prompt: bool) -> Result<String> {
        let mut values = Vec::with_capacity(messages.len());
        for (number, message) in messages.iter().enumerate() {
            if !["system", "user", "assistant"].contains(&message.role) {
                let role = message.role;
                let problem =
                    format!("message {number} has the role `{role}`; supported: system, user, assistant");
                return Err(Error::Template(problem));
            }
            let empty = message.content.trim().is_empty();
            let content = if empty { String::new() } else { placeholder(number) };
            values.push(context! { role => message.role, content => content });
        }
        let context = context! {
            messages => values,
            add_generation_prompt => add_generation_prompt,
            bos_token => self.bos_token,
            eos_token => self.eos_token,
            tools => (),
            documents => (),
        };
        let template = self.environment.get_template("chat_template").map_err(invalid)?;
        template.render(context).map_err(|error| match error.kind() {
            ErrorKind::InvalidOperation => Error::Template(format!(
                "refuses the conversation: {}",
                error.detail().unwrap_or("no reason given")
            )),
            _ => invalid(error),
        })
    }
}

/// A part of a rendered conversation.
#[derive(Debug)]
enum Piece<'a> {
    /// What the template wrote.
    Markup(&'a str),
    /// The place of a message's content.
    Content(usize),
}

fn placeholder(number: usize) -> String {
    format!("{OPEN}{number}{CLOSE}")
}

/// Cuts a rendered conversation of `messages` messages at its placeholders.
fn split(mut rendered: &str, messages: usize) -> Result<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    while let Some((markup, rest)) = rendered.split_once(OPEN) {
        let number = rest.split_once(CLOSE).and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
        let Some((number, rest)) = number.filter(|&(number, _): &(usize, _)| number < messages) else {
            return Err(Error::Template(
                "takes a message's text apart; it must write contents whole".to_owned(),
            ));
        };
        pieces.extend((!markup.is_empty()).then_some(Piece::Markup(markup)));
        pieces.push(Piece::Content(number));
        rendered = rest;
    }
    if rendered.contains(CLOSE) {
        return Err(Error::Template("takes a message's text apart; it must write contents whole".to_owned()));
    }
    pieces.extend((!rendered.is_empty()).then_some(Piece::Markup(rendered)));
    Ok(pieces)
}

/// `chat_template` of `tokenizer_config.json`: a string, or a list of named templates of which `default` is taken.
fn configured_source(tokenizer_config: &Map<String, Value>) -> Result<Option<String>> {
    match tokenizer_config.get("chat_template") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(source)) => Ok(Some(source.clone())),
        Some(Value::Array(templates)) => (templates.iter())
            .find(|template| template["name"] == "default")
            .and_then(|template| template["template"].as_str())
            .map(|source| Some(source.to_owned()))
            .ok_or_else(|| {
                Error::Template("the list in tokenizer_config.json has none named `default`".to_owned())
            }),
        Some(_) => Err(Error::Template("tokenizer_config.json holds neither a string nor a list".to_owned())),
    }
}

/// The environment of transformers' `_compile_jinja_template`: whitespace control, Python's methods, its functions.
fn environment(source: &str) -> Result<Environment<'static>> {
    if source.contains([OPEN, CLOSE]) {
        return Err(Error::Template(
            "uses U+F8F0 or U+F8F1, which mark the places of contents here".to_owned(),
        ));
    }
    let mut environment = Environment::new();
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_function(
        "raise_exception",
        |message: String| -> std::result::Result<(), minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment.add_function("strftime_now", |format: String| {
        CLOCK.iter().fold(format, |text, (code, value)| text.replace(code, value))
    });
    environment.add_template_owned("chat_template", without_generation_tags(source)).map_err(invalid)?;
    Ok(environment)
}

/// `{% generation %}` blocks mark an assistant's text for transformers' loss masks; they write nothing.
fn without_generation_tags(source: &str) -> String {
    let mut plain = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, tag, after)) = next_tag(rest) {
        plain.push_str(before);
        let body = tag.trim_matches(['{', '%', '}', '-', '+']).trim();
        match body {
            "generation" => plain.push_str(&tag.replace(body, "if true")),
            "endgeneration" => plain.push_str(&tag.replace(body, "endif")),
            _ => plain.push_str(tag),
        }
        rest = after;
    }
    plain + rest
}

fn next_tag(source: &str) -> Option<(&str, &str, &str)> {
    let start = source.find("{%")?;
    let end = start + source[start..].find("%}")? + 2;
    Some((&source[..start], &source[start..end], &source[end..]))
}

fn invalid(error: minijinja::Error) -> Error {
    Error::Template(format!("cannot be used: {error}"))
}
