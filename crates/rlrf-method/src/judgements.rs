//! Judgements: feedback on responses, each asked for once and kept as a row.

use std::collections::HashMap;

use crate::aspect::Aspect;
use crate::committer::{Committer, read_row, write_row};
use crate::digest::digest;
use crate::error::{Error, Result};
use crate::feedback::Feedback;
use crate::instruction::Instruction;
use crate::row::{Row, RowStore, Table};
use crate::seam::{Judge, JudgeRequest, Progress};

/// Identity of a judgement: everything that decides it. `judge` is the judge's digest on the aspect, `rubric` the aspect's
/// [rubric](Aspect::rubric).
fn feedback_key(judge: &str, instruction: &Instruction, response: &str, rubric: &Aspect) -> String {
    let asked = (&instruction.messages, &instruction.reference, &instruction.answer);
    digest(&("feedback", judge, asked, response, rubric))
}

/// Feedback that is wanted of one judge. Two wishes for the same are one; what the store holds is not asked for.
#[derive(Debug)]
pub struct Judgements<'a> {
    aspects: &'a [Aspect],
    /// The judge's digest on each aspect, and the aspect's rubric.
    rubrics: Vec<(String, Aspect)>,
    /// By key; none while it is to be asked for.
    feedback: HashMap<String, Option<Feedback>>,
    requests: Vec<JudgeRequest<'a>>,
    /// Of each request: key, instruction and position of its row.
    rows: Vec<(String, String, u32)>,
}

impl<'a> Judgements<'a> {
    /// None is wanted yet.
    #[must_use]
    pub fn new(judge: &dyn Judge, aspects: &'a [Aspect]) -> Self {
        let rubrics = aspects.iter().map(|aspect| (judge.digest_on(aspect), aspect.rubric())).collect();
        Self { aspects, rubrics, feedback: HashMap::new(), requests: Vec::new(), rows: Vec::new() }
    }

    /// Wants feedback on a response, on the aspect of this place among the aspects, to be kept under this name of an
    /// instruction and this position. Returns its key.
    ///
    /// # Errors
    /// The store failed.
    pub fn want(
        &mut self,
        store: &dyn RowStore,
        (instruction, response): (&'a Instruction, &'a str),
        aspect: usize,
        (name, position): (&str, u32),
    ) -> Result<String> {
        let (judge, rubric) = &self.rubrics[aspect];
        let key = feedback_key(judge, instruction, response, rubric);
        if !self.feedback.contains_key(&key) {
            let committed = store.get(Table::Feedback, &key)?;
            if committed.is_none() {
                self.requests.push(JudgeRequest { instruction, response, aspect: &self.aspects[aspect] });
                self.rows.push((key.clone(), name.to_string(), position));
            }
            let feedback = committed.map(|body| read_row(Table::Feedback, &key, body)).transpose()?;
            self.feedback.insert(key.clone(), feedback);
        }
        Ok(key)
    }

    /// Asks the judge for what is not there, and commits it; `task` names it to who watches. Returns all that was wanted, by key.
    ///
    /// # Errors
    /// A failure of the judge or the store, or the user's interruption; what is finished is committed.
    pub fn ask(
        self,
        judge: &mut dyn Judge,
        store: &mut dyn RowStore,
        progress: &dyn Progress,
        (task, iteration): (&str, u32),
    ) -> Result<HashMap<String, Feedback>> {
        let Self { feedback: mut known, requests, rows, .. } = self;
        progress.begin(task, known.len() as u64, (known.len() - requests.len()) as u64);
        let mut committer = Committer::new(store);
        let judged = judge.judge(&requests, &mut |request, feedback| {
            let (key, instruction, position) = &rows[request];
            let mut body = write_row(Table::Feedback, key, &feedback)?;
            body["response"] = requests[request].response.into();
            progress.advance(1, 0);
            known.insert(key.clone(), Some(feedback));
            let (key, instruction, position) = (key.clone(), instruction.clone(), *position);
            committer.push(Table::Feedback, Row { key, iteration, instruction, position, body })?;
            if progress.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
        });
        committer.flush()?;
        progress.end();
        judged?;
        let missing = || Error::Backend(format!("{task}: a judgement did not come back"));
        known.into_iter().map(|(key, feedback)| Ok((key, feedback.ok_or_else(missing)?))).collect()
    }
}
