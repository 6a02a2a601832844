//! Examples of reflection, to be read as conversations.

use super::markup::{Section, escape};
use crate::figure::optional;
use crate::summary::{Summary, Trace, TraceFeedback};

/// Levels of a rubric.
const LEVELS: u8 = 3;

/// So many traces are unfolded; the others show their first line.
const OPEN: usize = 3;

/// The problem's beginning, in a folded trace.
const BEGINNING: usize = 90;

/// Problem, draft, feedback and refinement of each trace.
pub(super) fn traces(summary: &Summary) -> Option<Section> {
    if summary.traces.is_empty() {
        return None;
    }
    let conversations: String =
        summary.traces.iter().enumerate().map(|(index, trace)| conversation(trace, index < OPEN)).collect();
    let body =
        format!("<p>Drafts, the feedback on them, and the best refinement of each.</p>\n{conversations}");
    Some(Section { id: "traces", heading: "Examples", body })
}

fn conversation(trace: &Trace, open: bool) -> String {
    let mark = match trace.correct {
        Some(true) => "<span class=\"verdict right\">✓ right</span>",
        Some(false) => "<span class=\"verdict wrong\">✗ wrong</span>",
        None => "<span class=\"verdict\">not checked</span>",
    };
    let (draft_score, score) = (optional(trace.scores.0, 2), optional(trace.scores.1, 2));
    let mut turns = turn("problem", &format!("Problem {}", escape(&trace.instruction)), &trace.problem);
    if let Some(reference) = &trace.reference {
        turns.push_str(&turn("reference", "Reference", reference));
    }
    turns.push_str(&turn("draft", &format!("Draft · score {draft_score}"), &trace.draft));
    for feedback in &trace.feedback {
        turns.push_str(&turn("critique", &feedback_heading(feedback), &feedback.critique));
    }
    turns.push_str(&turn("refinement", &format!("Refinement · score {score} {mark}"), &trace.refinement));
    format!(
        "<details class=\"trace\"{}>\n<summary>{mark} <span class=\"quiet\">iteration {} · score {draft_score} → {score}</span> \
         <span class=\"beginning\">{}</span></summary>\n{turns}</details>\n",
        if open { " open" } else { "" },
        trace.iteration,
        escape(&beginning(&trace.problem)),
    )
}

/// One turn; `heading` is HTML, `text` is not.
fn turn(kind: &str, heading: &str, text: &str) -> String {
    format!(
        "<div class=\"turn {kind}\">\n<h4>{heading}</h4>\n<div class=\"text\" dir=\"auto\">{}</div>\n</div>\n",
        escape(text)
    )
}

fn feedback_heading(feedback: &TraceFeedback) -> String {
    let level = feedback.level.map_or("level could not be read".to_string(), |level| {
        let filled = usize::from(level.min(LEVELS));
        let dots = "●".repeat(filled) + &"○".repeat(usize::from(LEVELS) - filled);
        format!("level {level} of {LEVELS} <span aria-hidden=\"true\">{dots}</span>")
    });
    let reason = feedback.reason.as_ref().map(|reason| format!(" · chosen because: {}", escape(reason)));
    format!("Feedback on {} · {level}{}", escape(&feedback.aspect), reason.unwrap_or_default())
}

fn beginning(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(BEGINNING) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
