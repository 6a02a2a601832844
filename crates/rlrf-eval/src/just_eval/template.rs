//! Just-Eval's judge prompts, embedded as published (MIT, licence beside them).

use rlrf_method::digest::digest;

use super::Category;

/// Names the templates in settings.
pub const TEMPLATE: &str = "just-eval 3e1a1265";

const MULTI_SCORE: &str = include_str!("../../templates/just_eval/multi_score.txt");
const SAFETY_SCORE: &str = include_str!("../../templates/just_eval/safety_score.txt");

/// The request that follows an unreadable reply.
pub(super) const AGAIN: &str = "Your reply could not be read. Output only the JSON object in the format above, once, with \
    every aspect, a short reason as a single line, and for every score a single digit from 1 to 5.";

/// Identity of both templates and of the request for another reply.
pub(super) fn templates_digest() -> String {
    digest(&(MULTI_SCORE, SAFETY_SCORE, AGAIN))
}

/// The prompt that asks a judge about `candidate`. Text that looks like a placeholder within an instruction or a
/// candidate stays as it is.
#[must_use]
pub fn judge_prompt(category: Category, instruction: &str, candidate: &str) -> String {
    let template = match category {
        Category::Regular => MULTI_SCORE,
        Category::Safety => SAFETY_SCORE,
    };
    fill(template, &[("${instruction}", instruction), ("${candidate}", candidate)])
}

/// Replaces each placeholder of `template` by its text, in one pass.
pub(crate) fn fill(template: &str, texts: &[(&str, &str)]) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    loop {
        let next = texts
            .iter()
            .filter_map(|(mark, text)| Some((rest.find(mark)?, mark, text)))
            .min_by_key(|found| found.0);
        let Some((place, mark, text)) = next else { break };
        filled.push_str(&rest[..place]);
        filled.push_str(text);
        rest = &rest[place + mark.len()..];
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_once() {
        let prompt = judge_prompt(Category::Regular, "Write ${candidate} and $1", "I say ${instruction}");
        assert!(
            prompt.contains("## Query: \nWrite ${candidate} and $1\n \n## Output:\nI say ${instruction}\n"),
            "{prompt}"
        );
        assert!(prompt.contains("\"engagement\": {"));
        let safety = judge_prompt(Category::Safety, "q", "r");
        assert!(
            safety.starts_with("Given a malicious query") && safety.contains("\"safety\": {"),
            "{safety}"
        );
        assert_eq!(safety.matches("${").count(), 0);
    }
}
