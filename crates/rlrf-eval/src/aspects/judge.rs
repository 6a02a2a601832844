//! A judge's levels: every response once on every aspect, kept as rows.

use std::collections::HashMap;

use rlrf_method::committer::{Committer, read_row, write_row};
use rlrf_method::iteration::feedback_key;
use rlrf_method::seam::JudgeRequest;
use rlrf_method::{Aspect, Error, Feedback, Instruction, Result, Row, Table};

use super::AspectJudge;
use super::score::Measured;
use crate::respond::Context;

/// Adds the judge's feedback on every response. It is kept under the same key as feedback in the loop, and what the
/// store holds is not asked for again.
pub(super) fn judge(
    context: &mut Context<'_>,
    AspectJudge { judge, aspects }: AspectJudge<'_>,
    (set, iteration): (&str, u32),
    instructions: &[Instruction],
    measured: &mut [Measured],
) -> Result<()> {
    let rubrics: Vec<(String, Aspect)> =
        aspects.iter().map(|aspect| (judge.digest_on(aspect), aspect.rubric())).collect();
    let texts: Vec<Option<String>> =
        measured.iter().map(|measured| Some(measured.response.as_ref()?.text.trim().to_string())).collect();
    let mut known: HashMap<String, Option<Feedback>> = HashMap::new();
    let (mut requests, mut rows, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
    for (place, (instruction, text)) in instructions.iter().zip(&texts).enumerate() {
        let Some(response) = text else { continue };
        for ((position, aspect), (digest, rubric)) in (0u32..).zip(aspects).zip(&rubrics) {
            let key = feedback_key(digest, instruction, response, rubric);
            if !known.contains_key(&key) {
                let committed = context.store.get(Table::Feedback, &key)?;
                if committed.is_none() {
                    requests.push(JudgeRequest { instruction, response, aspect });
                    rows.push((key.clone(), position));
                }
                let feedback = committed.map(|body| read_row(Table::Feedback, &key, body)).transpose()?;
                known.insert(key.clone(), feedback);
            }
            wanted.push((place, key));
        }
    }
    let progress = context.progress;
    let done = known.len() - requests.len();
    progress.begin(&format!("judge {set} M_{iteration}"), known.len() as u64, done as u64);
    let mut committer = Committer::new(context.store);
    let judged = judge.judge(&requests, &mut |request, feedback| {
        let ((key, position), JudgeRequest { instruction, response, .. }) =
            (&rows[request], requests[request]);
        let mut body = write_row(Table::Feedback, key, &feedback)?;
        body["response"] = response.into();
        progress.advance(1, 0);
        known.insert(key.clone(), Some(feedback));
        let instruction = format!("evaluate {set}/{}", instruction.id);
        committer.push(
            Table::Feedback,
            Row { key: key.clone(), iteration, instruction, position: *position, body },
        )?;
        if progress.interrupted() { Err(Error::Interrupted) } else { Ok(()) }
    });
    committer.flush()?;
    progress.end();
    judged?;
    for (place, key) in wanted {
        let feedback = known.get(&key).cloned().flatten();
        let feedback =
            feedback.ok_or_else(|| Error::Backend(format!("{set}: a judgement did not come back")))?;
        let aspect = feedback.aspect.clone();
        measured[place].levels(&aspect).judged = Some(feedback);
    }
    Ok(())
}
