//! A judge's levels: every response once on every aspect, kept as rows.

use rlrf_method::judgements::Judgements;
use rlrf_method::{Instruction, Result};

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
    let texts: Vec<Option<String>> =
        measured.iter().map(|measured| Some(measured.response.as_ref()?.text.trim().to_string())).collect();
    let mut judgements = Judgements::new(judge, aspects);
    let mut wanted = Vec::new();
    for (place, (instruction, text)) in instructions.iter().zip(&texts).enumerate() {
        let Some(response) = text else { continue };
        let name = format!("evaluate {set}/{}", instruction.id);
        for (position, order) in (0u32..).zip(0..aspects.len()) {
            let row = (name.as_str(), position);
            wanted.push((place, judgements.want(context.store, (instruction, response), order, row)?));
        }
    }
    let task = format!("judge {set} M_{iteration}");
    let judged = judgements.ask(judge, context.store, context.progress, (&task, iteration))?;
    for (place, key) in wanted {
        let feedback = judged[&key].clone();
        let aspect = feedback.aspect.clone();
        measured[place].levels(&aspect).judged = Some(feedback);
    }
    Ok(())
}
