//! Asking a judge, and asking once more where its reply cannot be read.

use rlrf_method::config::Sampling;
use rlrf_method::digest::stream;
use rlrf_method::seam::Policy;
use rlrf_method::{Message, Result};

use crate::respond::{Context, Prompt, respond};

/// One question to a judge.
pub(crate) struct Question {
    /// Unique in its stage.
    pub(crate) id: String,
    /// The conversation.
    pub(crate) messages: Vec<Message>,
}

/// How a judge is asked.
pub(crate) struct Asking<'a> {
    /// Names the stage in progress and rows.
    pub(crate) stage: &'a str,
    /// Iteration of the policy that is measured.
    pub(crate) iteration: u32,
    /// How replies are drawn.
    pub(crate) sampling: &'a Sampling,
    /// The request that follows a reply which cannot be read.
    pub(crate) again: &'a str,
}

impl Asking<'_> {
    /// The judge's replies to each question: none where the question does not fit its context, one where `readable`
    /// is content with it, else two.
    ///
    /// The second request shows the judge its first reply: at temperature 0 the same question has the same answer.
    pub(crate) fn ask(
        &self,
        context: &mut Context<'_>,
        judge: &mut dyn Policy,
        questions: &[Question],
        readable: impl Fn(usize, &str) -> bool,
    ) -> Result<Vec<Vec<String>>> {
        let mut replies = vec![Vec::new(); questions.len()];
        let first = questions.iter().map(|question| question.messages.clone()).enumerate().collect();
        self.round(context, judge, questions, first, &mut replies)?;
        let again = replies.iter().enumerate().filter_map(|(index, replies)| {
            let reply = replies.first().filter(|reply| !readable(index, reply))?;
            let mut messages = questions[index].messages.clone();
            messages.push(Message::assistant(reply.as_str()));
            messages.push(Message::user(self.again));
            Some((index, messages))
        });
        let again = again.collect();
        self.round(context, judge, questions, again, &mut replies)?;
        Ok(replies)
    }

    fn round(
        &self,
        context: &mut Context<'_>,
        judge: &mut dyn Policy,
        questions: &[Question],
        asked: Vec<(usize, Vec<Message>)>,
        replies: &mut [Vec<String>],
    ) -> Result<()> {
        let (mut indices, mut prompts) = (Vec::new(), Vec::new());
        for (index, messages) in asked {
            if !judge.fits(&messages)? {
                continue;
            }
            // Not of the question's id: what is asked alike is answered alike, under one key.
            let attempt = stream(0, "judge", "", u32::from(!replies[index].is_empty()));
            indices.push(index);
            prompts.push(Prompt {
                id: questions[index].id.clone(),
                messages,
                streams: vec![attempt],
                sampling: self.sampling.clone(),
            });
        }
        if prompts.is_empty() {
            return Ok(());
        }
        let found = respond(context, self.stage, self.iteration, judge, &prompts)?;
        for (index, generated) in indices.into_iter().zip(found) {
            replies[index].extend(generated.into_iter().map(|generated| generated.text));
        }
        Ok(())
    }
}
