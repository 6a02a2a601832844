//! Reference knowledge from a local index of passages.

use anyhow::Result;
use rlrf_method::digest::digest;
use rlrf_method::grounding::Grounding;
use rlrf_method::{Instruction, Role};
use rlrf_retrieval::{Index, Options, Passage};

use crate::config::RetrievalConfig;
use crate::inputs::Reader;

/// Passages for the instructions without a reference, or for all.
pub(crate) fn grounding(
    config: &RetrievalConfig,
    reader: &mut Reader,
    instructions: &[Instruction],
) -> Result<Grounding> {
    let index = Index::open(reader.path(&config.index))?;
    let content = index.manifest().digest.clone();
    reader.remember(&config.index.display().to_string(), &content);
    let options = Options { top: config.passages, title: None };
    let mut grounding = Grounding::new(digest(&("passages", content, config.passages, config.always)));
    for instruction in instructions.iter().filter(|i| config.always || i.reference.is_none()) {
        let found = index.search(&query(instruction), &options)?;
        if !found.is_empty() {
            grounding.add(instruction, reference(&found));
        }
    }
    Ok(grounding)
}

/// What the user says in the conversation.
fn query(instruction: &Instruction) -> String {
    let said = instruction.messages.iter().filter(|message| message.role == Role::User);
    said.map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n")
}

fn reference(passages: &[Passage]) -> String {
    let texts = passages.iter().map(|passage| match passage.title.trim() {
        "" => passage.text.clone(),
        title => format!("{title}: {}", passage.text),
    });
    texts.collect::<Vec<_>>().join("\n\n")
}
