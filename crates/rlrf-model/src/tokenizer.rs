//! `tokenizer.json`, through the `tokenizers` crate.

use std::collections::HashSet;
use std::path::Path;

use serde_json::Value;
use tokenizers::tokenizer::AddedVocabulary;
use tokenizers::{NormalizerWrapper, OffsetReferential, OffsetType};

use crate::{Error, Result, bpe};

/// Text to token ids and back.
///
/// Text is either *data*, in which the characters of a special token are just characters, or *markup*: a chat template's
/// own text, in which special tokens are recognised.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    /// Special tokens disabled, truncation and padding off.
    data: tokenizers::Tokenizer,
    /// As `data`, but for text that goes on after other text: puts no space in front. None if `data` puts none.
    continuation: Option<Box<tokenizers::Tokenizer>>,
    /// Whether a run of text after a special token is a continuation too.
    space_only_at_start: bool,
    markup: AddedVocabulary,
    /// Ids of special tokens, save the one for unknown text: these data must never give.
    special: HashSet<u32>,
    vocab_size: usize,
    largest_id: u32,
    /// The file, to be written back as it was.
    json: Vec<u8>,
}

/// A part of a rendered conversation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Segment<'a> {
    /// Special tokens are recognised.
    Markup(&'a str),
    /// Special tokens are plain text.
    Data(&'a str),
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model folder.
    ///
    /// # Errors
    /// The file is absent or not a tokenizer that the `tokenizers` crate understands.
    pub fn load(folder: &Path) -> Result<Self> {
        let file = folder.join("tokenizer.json");
        if !file.exists() && folder.join("tokenizer.model").exists() {
            let problem = "absent; the folder has only tokenizer.model: load it with transformers' AutoTokenizer and \
                           save_pretrained to convert it";
            return Err(Error::file(&file, problem));
        }
        let json = std::fs::read(&file).map_err(|source| Error::io(&file, "read", source))?;
        Self::from_json(json).map_err(|error| Error::file(&file, error.to_string()))
    }

    /// From the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// The bytes are not a tokenizer that the `tokenizers` crate understands, or hold no token.
    pub fn from_json(json: Vec<u8>) -> Result<Self> {
        let value: Value = serde_json::from_slice(&json).map_err(failed)?;
        let mut data = build(&json)?;
        let markup = data.get_added_vocabulary().clone();
        data.set_encode_special_tokens(true);
        let continuation = match continuation_json(&value) {
            Some(json) => {
                let mut continuation = build(&serde_json::to_vec(&json).map_err(failed)?)?;
                continuation.set_encode_special_tokens(true);
                Some(Box::new(continuation))
            }
            None => None,
        };
        let unknown = unknown_id(&value["model"], &data);
        let special = (markup.get_added_tokens_decoder().iter())
            .filter(|(id, token)| token.special && Some(**id) != unknown)
            .map(|(id, _)| *id)
            .collect();
        let vocabulary = data.get_vocab(true);
        let largest_id = *vocabulary.values().max().ok_or_else(|| failed("the vocabulary is empty"))?;
        let space_only_at_start = value["pre_tokenizer"].to_string().contains(r#""prepend_scheme":"first""#);
        let vocab_size = vocabulary.len();
        Ok(Self { data, continuation, space_only_at_start, markup, special, vocab_size, largest_id, json })
    }

    /// Trains a byte-level BPE tokenizer in which every digit is a token: special tokens have the first ids, in the given
    /// order, then come the 256 bytes, then merges of pairs that occur at least twice, until `vocab_size`. The same
    /// texts give the same bytes of `tokenizer.json`.
    ///
    /// # Errors
    /// `vocab_size` is too small for bytes and special tokens, or a special token is given twice.
    pub fn train_bpe(
        texts: impl Iterator<Item = String>,
        vocab_size: usize,
        special_tokens: &[&str],
    ) -> Result<Self> {
        Self::from_json(bpe::train(texts, vocab_size, special_tokens)?)
    }

    /// Tokenises data: special tokens in it stay plain text.
    ///
    /// # Errors
    /// The tokenizer cannot represent the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_data(text, &self.data)
    }

    /// Tokenises data that goes on after other text: as [`Tokenizer::encode`], without the space that SentencePiece-style
    /// tokenizers put before a text's first word.
    ///
    /// # Errors
    /// The tokenizer cannot represent the text.
    pub fn encode_continuation(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_data(text, self.continuation())
    }

    /// Tokenises a template's own text: special tokens are recognised; none is added.
    ///
    /// # Errors
    /// The tokenizer cannot represent the text.
    pub fn encode_markup(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_segments(&[Segment::Markup(text)])
    }

    /// Text of token ids, special tokens left out.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.data.decode(tokens, true).map_err(failed)
    }

    /// Id of a token by its exact text.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.data.token_to_id(token)
    }

    /// Text of a token by its id, as the vocabulary spells it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.data.id_to_token(id)
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The largest token id; a model's embedding must have more rows than that.
    pub fn largest_id(&self) -> u32 {
        self.largest_id
    }

    /// The bytes of `tokenizer.json`.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// Splits `prefix + option` for each option into the tokens that all share and one distinguishing token
    /// each: how a verdict such as "\nLevel: " + {"1","2","3"} is read off the logits in one step. The text goes on
    /// after other text.
    ///
    /// # Errors
    /// There are fewer than two options, or they do not differ in exactly one token.
    pub fn choice(&self, prefix: &str, options: &[&str]) -> Result<(Vec<u32>, Vec<u32>)> {
        let encoded = (options.iter())
            .map(|option| self.encode_continuation(&format!("{prefix}{option}")))
            .collect::<Result<Vec<_>>>()?;
        let refuse = || {
            let reason =
                "do not differ in exactly one token of this tokenizer; choose other words for the options";
            Error::Tokenizer(format!("the options {options:?} after {prefix:?} {reason}"))
        };
        let Some((&last, shared)) = encoded.first().and_then(|first| first.split_last()) else {
            return Err(refuse());
        };
        let mut distinguishing = vec![last];
        for tokens in &encoded[1..] {
            match tokens.split_last() {
                Some((last, start)) if start == shared && !distinguishing.contains(last) => {
                    distinguishing.push(*last)
                }
                _ => return Err(refuse()),
            }
        }
        if distinguishing.len() < 2 {
            return Err(refuse());
        }
        Ok((shared.to_vec(), distinguishing))
    }

    /// Whether an id is a special token's.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// Tokens that the tokenizer itself puts before a text, such as `<s>`.
    pub(crate) fn start_tokens(&self) -> Result<Vec<u32>> {
        let plain = self.data.encode_fast("a", false).map_err(failed)?;
        let processed = self.data.encode_fast("a", true).map_err(failed)?;
        let (plain, processed) = (plain.get_ids(), processed.get_ids());
        let start = (0..processed.len()).find(|&start| processed[start..].starts_with(plain)).unwrap_or(0);
        Ok(processed[..start].to_vec())
    }

    /// Tokens and text of a piece of markup.
    pub(crate) fn split_markup(&self, markup: &str) -> Vec<std::result::Result<u32, String>> {
        // Without a normaliser: the text between the tokens is normalised when it is encoded.
        let splits = self.markup.extract_and_normalize(None::<&NormalizerWrapper>, markup);
        (splits.get_splits(OffsetReferential::Original, OffsetType::Byte).into_iter())
            .filter(|(text, _, _)| !text.is_empty())
            .map(|(text, _, tokens)| match tokens.as_ref().and_then(|tokens| tokens.first()) {
                Some(token) => Ok(token.id),
                None => Err(text.to_owned()),
            })
            .collect()
    }

    /// Tokenises markup and data as one text: special tokens are cut out of the markup only, and what lies between two of
    /// them is tokenised as one run, as Hugging Face does it for the rendered conversation.
    pub(crate) fn encode_segments(&self, segments: &[Segment<'_>]) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        let mut run = String::new();
        for segment in segments {
            match segment {
                Segment::Data(text) => run.push_str(text),
                Segment::Markup(markup) => {
                    for part in self.split_markup(markup) {
                        match part {
                            Ok(token) => {
                                tokens.extend(self.encode_run(&run, tokens.is_empty())?);
                                run.clear();
                                tokens.push(token);
                            }
                            Err(text) => run.push_str(&text),
                        }
                    }
                }
            }
        }
        tokens.extend(self.encode_run(&run, tokens.is_empty())?);
        Ok(tokens)
    }

    /// Tokenises data that follows a special token.
    pub(crate) fn encode_after_token(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_run(text, false)
    }

    fn encode_run(&self, run: &str, at_start: bool) -> Result<Vec<u32>> {
        let tokenizer = if self.space_only_at_start && !at_start { self.continuation() } else { &self.data };
        self.encode_data(run, tokenizer)
    }

    fn continuation(&self) -> &tokenizers::Tokenizer {
        self.continuation.as_deref().unwrap_or(&self.data)
    }

    fn encode_data<'a>(&'a self, text: &str, tokenizer: &'a tokenizers::Tokenizer) -> Result<Vec<u32>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let encoding = tokenizer.encode_fast(text, false).map_err(failed)?;
        if encoding.get_ids().iter().any(|id| self.is_special(*id)) {
            return self.encode_apart(text, tokenizer);
        }
        Ok(encoding.get_ids().to_vec())
    }

    /// For vocabularies that reach a special token by merging plain characters: spells these characters one by one.
    fn encode_apart<'a>(
        &'a self,
        mut text: &str,
        mut tokenizer: &'a tokenizers::Tokenizer,
    ) -> Result<Vec<u32>> {
        let mut tokens = Vec::new();
        loop {
            let encoding = tokenizer.encode(text, false).map_err(failed)?;
            let ids = encoding.get_ids();
            let Some(place) = ids.iter().position(|id| self.is_special(*id)) else {
                tokens.extend(ids);
                return Ok(tokens);
            };
            tokens.extend(&ids[..place]);
            let (start, end) = encoding.get_offsets()[place];
            tokenizer = self.continuation();
            for character in text[start..end].chars() {
                let spelled = tokenizer.encode_fast(character.to_string(), false).map_err(failed)?;
                tokens.extend(spelled.get_ids());
            }
            if start == end || tokens.iter().any(|id| self.is_special(*id)) {
                return Err(failed(format!("text gives the special token {:?}", self.token(ids[place]))));
            }
            text = &text[end..];
        }
    }
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Tokenizer(error.to_string())
}

fn build(json: &[u8]) -> Result<tokenizers::Tokenizer> {
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(json).map_err(failed)?;
    tokenizer.with_truncation(None).map_err(failed)?;
    tokenizer.with_padding(None);
    Ok(tokenizer)
}

fn unknown_id(model: &Value, tokenizer: &tokenizers::Tokenizer) -> Option<u32> {
    match model["unk_token"].as_str() {
        Some(token) => tokenizer.token_to_id(token),
        None => model["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok()),
    }
}

/// The tokenizer without what puts a space before a text's first word; None if it has no such part.
fn continuation_json(tokenizer: &Value) -> Option<Value> {
    let mut json = tokenizer.clone();
    remove_prefix_space(&mut json["normalizer"]);
    remove_prefix_space(&mut json["pre_tokenizer"]);
    (json != *tokenizer).then_some(json)
}

fn remove_prefix_space(part: &mut Value) {
    match part["type"].as_str() {
        Some("Prepend") => *part = serde_json::json!({"type": "Sequence", "normalizers": []}),
        Some("Metaspace") => {
            part["prepend_scheme"] = "never".into();
            // The name of older files; the crate refuses the two to disagree.
            if let Some(older) = part.get_mut("add_prefix_space") {
                *older = false.into();
            }
        }
        Some("ByteLevel") => part["add_prefix_space"] = false.into(),
        Some("Sequence") => {
            for list in ["normalizers", "pretokenizers"] {
                if let Some(parts) = part.get_mut(list).and_then(Value::as_array_mut) {
                    parts.iter_mut().for_each(remove_prefix_space);
                }
            }
        }
        _ => {}
    }
}
