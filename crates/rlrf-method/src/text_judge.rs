//! Any model as the judge: it is asked for a critique and a level in the words of the feedback template, and its answer is
//! read as text.

use crate::config::Sampling;
use crate::digest::{digest, stream_of};
use crate::error::Result;
use crate::feedback::{Feedback, LEVELS, ParseOutcome};
use crate::instruction::Message;
use crate::seam::{Generated, GenerationRequest, Judge, JudgeRequest, Policy};
use crate::template::Templates;
use crate::verdict::{Verdict, asked_form, holds_a_verdict};

/// Raised whenever the same reply is read differently, or asked for once more in other words: feedback is kept under it.
const VERSION: u32 = 1;

/// A model that judges in free text. A reply that cannot be read is asked for once more; the request shows it and says
/// what form is wanted. A second one that cannot be read makes the feedback a failure, with both replies.
pub struct TextJudge<'a> {
    policy: Box<dyn Policy + 'a>,
    templates: &'a Templates,
    sampling: Sampling,
}

impl<'a> TextJudge<'a> {
    /// `policy` judges by `templates`; its replies, critique and level, are drawn by `sampling`.
    pub fn new(policy: Box<dyn Policy + 'a>, templates: &'a Templates, sampling: Sampling) -> Self {
        Self { policy, templates, sampling }
    }

    /// The model's replies to `asked`, as they come.
    fn ask(&mut self, asked: &[Asked], sink: &mut dyn FnMut(&Asked, Generated) -> Result<()>) -> Result<()> {
        let requests: Vec<GenerationRequest> = asked
            .iter()
            .map(|asked| GenerationRequest {
                messages: asked.messages.clone(),
                streams: vec![stream_of(&asked.messages)],
                sampling: self.sampling.clone(),
            })
            .collect();
        if requests.is_empty() {
            return Ok(());
        }
        self.policy.generate(&requests, &mut |request, _, generated| sink(&asked[request], generated))
    }
}

/// A conversation with the judge.
struct Asked {
    /// Index of the request.
    place: usize,
    messages: Vec<Message>,
    /// Of a second one: the first reply, and the code that makes the level the judge's own.
    before: Option<(String, Option<String>)>,
}

impl Asked {
    /// Once more, after a `reply` that cannot be read.
    fn again(&self, reply: String, response: &str) -> Self {
        let code = holds_a_verdict(response).then(|| digest(&("code", &self.messages))[..6].to_string());
        let mut messages = self.messages.clone();
        messages.push(Message::assistant(reply.as_str()));
        messages.push(Message::user(request_again(code.as_deref())));
        Self { place: self.place, messages, before: Some((reply, code)) }
    }

    /// What a finished reply says on `aspect`.
    fn feedback(&self, reply: &str, response: &str, aspect: &str) -> Option<Feedback> {
        let code = self.before.as_ref().and_then(|(_, code)| code.as_deref());
        let Verdict { mut critique, level, mut parse } = Verdict::read(reply, response, code)?;
        if let Some((first, _)) = &self.before {
            parse = ParseOutcome::Repaired;
            if critique.is_empty() {
                critique = first.trim().to_string();
            }
        }
        Some(Feedback {
            reasked: self.before.is_some(),
            ..Feedback::from_level(aspect, critique, level, parse)
        })
    }

    /// What is kept of replies that cannot be read.
    fn failure(&self, reply: String, aspect: &str) -> Feedback {
        let raw = match &self.before {
            Some((first, _)) => format!("{first}\n\n[asked once more]\n\n{reply}"),
            None => reply,
        };
        Feedback { reasked: self.before.is_some(), ..Feedback::failed(aspect, raw) }
    }
}

/// What follows a reply that cannot be read.
fn request_again(code: Option<&str>) -> String {
    let forms: Vec<String> =
        (1..=LEVELS as u8).map(|level| format!("\"{}\"", asked_form(code, level))).collect();
    let (last, others) = forms.split_last().map_or(("", &[][..]), |(last, others)| (last.as_str(), others));
    format!(
        "Your reply does not end in a level that can be read. Write your own level for the response, and nothing else, as one \
         line that is either {} or {last}.",
        others.join(", ")
    )
}

impl Judge for TextJudge<'_> {
    fn digest(&self) -> String {
        digest(&(
            "text judge",
            VERSION,
            self.policy.digest(),
            self.templates.feedback_digest(),
            &self.sampling,
        ))
    }

    fn judge(
        &mut self,
        requests: &[JudgeRequest<'_>],
        sink: &mut dyn FnMut(usize, Feedback) -> Result<()>,
    ) -> Result<()> {
        const TOO_LONG: &str = "the prompt does not fit the judge's context, or it came to no reply";
        let mut first = Vec::with_capacity(requests.len());
        for (place, request) in requests.iter().enumerate() {
            let messages = self.templates.feedback(request.instruction, request.response, request.aspect)?;
            if self.policy.fits(&messages)? {
                first.push(Asked { place, messages, before: None });
            } else {
                sink(place, Feedback::failed(&request.aspect.name, TOO_LONG.into()))?;
            }
        }
        let mut unread = Vec::new();
        self.ask(&first, &mut |asked, generated| {
            let JudgeRequest { response, aspect, .. } = requests[asked.place];
            let Generated { text, complete, .. } = generated;
            // A verdict that a reply was cut at may have been the beginning of another.
            let found = if complete { asked.feedback(&text, response, &aspect.name) } else { None };
            match found {
                Some(feedback) => sink(asked.place, feedback),
                None if text.trim().is_empty() => {
                    sink(asked.place, Feedback::failed(&aspect.name, TOO_LONG.into()))
                }
                None => {
                    unread.push(asked.again(text, response));
                    Ok(())
                }
            }
        })?;
        let mut again = Vec::with_capacity(unread.len());
        for asked in unread {
            if self.policy.fits(&asked.messages)? {
                again.push(asked);
            } else if let Some((reply, _)) = asked.before {
                sink(asked.place, Feedback::failed(&requests[asked.place].aspect.name, reply))?;
            }
        }
        self.ask(&again, &mut |asked, generated| {
            let JudgeRequest { response, aspect, .. } = requests[asked.place];
            let Generated { text, complete, .. } = generated;
            let found = if complete { asked.feedback(&text, response, &aspect.name) } else { None };
            sink(asked.place, found.unwrap_or_else(|| asked.failure(text, &aspect.name)))
        })
    }
}
