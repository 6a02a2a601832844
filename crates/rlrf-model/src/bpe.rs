//! Training of a byte-level BPE tokenizer.
//!
//! The `tokenizers` crate's own trainer walks hash maps with a random seed, so the order of its merges is not
//! guaranteed from one process to the next. Here the next merge is always the most frequent pair, ties to the lower
//! ids, and nothing is ever taken in hash order: the same text gives the same bytes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use serde_json::{Map, Value, json};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, PreTokenizerWrapper};

use crate::{Error, Result};

/// A pair seen once would be memorised, not learnt.
const MIN_FREQUENCY: i64 = 2;

type Pair = (u32, u32);

/// Trains on `texts` and returns a `tokenizer.json`: special tokens first, then all 256 bytes, then merges.
pub(crate) fn train(
    texts: impl Iterator<Item = String>,
    vocab_size: usize,
    special_tokens: &[&str],
) -> Result<Vec<u8>> {
    let pre_tokenizer = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    ]});
    let mut vocabulary = Vocabulary::new(special_tokens, vocab_size)?;
    let words = count_words(texts, &pre_tokenizer)?;
    let merges = Corpus::new(&words, &vocabulary).merge(&mut vocabulary, vocab_size);
    let added_tokens: Vec<Value> = (special_tokens.iter().enumerate())
        .map(|(id, content)| {
            json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    let vocab: Map<String, Value> =
        vocabulary.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges,
        },
    });
    serde_json::to_vec_pretty(&tokenizer).map_err(|error| Error::Tokenizer(error.to_string()))
}

fn count_words(texts: impl Iterator<Item = String>, pre_tokenizer: &Value) -> Result<BTreeMap<String, i64>> {
    let failed =
        |error: &dyn std::fmt::Display| Error::Tokenizer(format!("cannot split the training text: {error}"));
    let pre_tokenizer: PreTokenizerWrapper =
        serde_json::from_value(pre_tokenizer.clone()).map_err(|error| failed(&error))?;
    let mut counts = BTreeMap::new();
    for text in texts {
        let mut splits = PreTokenizedString::from(text);
        pre_tokenizer.pre_tokenize(&mut splits).map_err(|error| failed(&error))?;
        for (word, _, _) in splits.get_splits(OffsetReferential::Normalized, OffsetType::Byte) {
            match counts.get_mut(word) {
                Some(count) => *count += 1,
                None => drop(counts.insert(word.to_owned(), 1)),
            }
        }
    }
    Ok(counts)
}

/// Tokens in order of their ids.
struct Vocabulary {
    tokens: Vec<String>,
    ids: HashMap<String, u32>,
    special_tokens: u32,
}

impl Vocabulary {
    fn new(special_tokens: &[&str], vocab_size: usize) -> Result<Self> {
        let mut alphabet: Vec<char> = ByteLevel::alphabet().into_iter().collect();
        alphabet.sort_unstable();
        let smallest = alphabet.len() + special_tokens.len();
        if vocab_size < smallest {
            return Err(Error::Tokenizer(format!(
                "a vocabulary of {vocab_size} cannot hold 256 bytes and {} special tokens; ask for at least {smallest}",
                special_tokens.len()
            )));
        }
        let mut vocabulary =
            Self { tokens: Vec::new(), ids: HashMap::new(), special_tokens: special_tokens.len() as u32 };
        for &token in special_tokens {
            if token.is_empty() || vocabulary.ids.contains_key(token) {
                return Err(Error::Tokenizer(format!("special token `{token}` is empty or given twice")));
            }
            vocabulary.id(token.to_owned());
        }
        for byte in alphabet {
            vocabulary.id(byte.to_string());
        }
        Ok(vocabulary)
    }

    /// The id of a token, added if new.
    fn id(&mut self, token: String) -> u32 {
        if let Some(&id) = self.ids.get(&token) {
            return id;
        }
        let id = self.tokens.len() as u32;
        self.tokens.push(token.clone());
        self.ids.insert(token, id);
        id
    }
}

/// Distinct words as token ids, with the pairs in them counted.
struct Corpus {
    words: Vec<(Vec<u32>, i64)>,
    pair_counts: HashMap<Pair, i64>,
    /// Words in which a pair has occurred; it may be gone from some by now.
    pair_words: HashMap<Pair, Vec<usize>>,
    /// Counts as they once were: an entry is good only while it equals `pair_counts`.
    queue: BinaryHeap<(i64, Reverse<Pair>)>,
}

impl Corpus {
    fn new(words: &BTreeMap<String, i64>, vocabulary: &Vocabulary) -> Self {
        let id = |byte: char| vocabulary.ids.get(byte.to_string().as_str()).copied();
        let mut corpus = Self {
            words: words
                .iter()
                .map(|(word, &count)| (word.chars().filter_map(id).collect(), count))
                .collect(),
            pair_counts: HashMap::new(),
            pair_words: HashMap::new(),
            queue: BinaryHeap::new(),
        };
        let mut pairs = BTreeSet::new();
        for word in 0..corpus.words.len() {
            corpus.count(word, 1, &mut pairs);
        }
        corpus.enqueue(pairs);
        corpus
    }

    /// Adds (sign 1) or takes away (sign -1) the pairs of a word.
    fn count(&mut self, word: usize, sign: i64, changed: &mut BTreeSet<Pair>) {
        let (ids, count) = &self.words[word];
        for pair in ids.windows(2).map(|pair| (pair[0], pair[1])) {
            *self.pair_counts.entry(pair).or_default() += sign * count;
            changed.insert(pair);
            let words = self.pair_words.entry(pair).or_default();
            if sign > 0 && words.last() != Some(&word) {
                words.push(word);
            }
        }
    }

    fn enqueue(&mut self, pairs: BTreeSet<Pair>) {
        for pair in pairs {
            let count = self.pair_counts[&pair];
            if count >= MIN_FREQUENCY {
                self.queue.push((count, Reverse(pair)));
            }
        }
    }

    /// Merges the most frequent pair until the vocabulary is full or no pair is frequent; returns the merges in order.
    fn merge(mut self, vocabulary: &mut Vocabulary, vocab_size: usize) -> Vec<[String; 2]> {
        let mut merges = Vec::new();
        while vocabulary.tokens.len() < vocab_size
            && let Some((count, Reverse(pair))) = self.queue.pop()
        {
            if self.pair_counts.get(&pair) != Some(&count) {
                continue;
            }
            let parts = [pair.0, pair.1].map(|id| vocabulary.tokens[id as usize].clone());
            let token = parts.concat();
            // Data must never spell a special token.
            if vocabulary.ids.get(&token).is_some_and(|&id| id < vocabulary.special_tokens) {
                continue;
            }
            merges.push(parts);
            let id = vocabulary.id(token);
            let mut changed = BTreeSet::new();
            for word in self.pair_words.remove(&pair).unwrap_or_default() {
                self.count(word, -1, &mut changed);
                replace_pair(&mut self.words[word].0, pair, id);
                self.count(word, 1, &mut changed);
            }
            self.enqueue(changed);
        }
        merges
    }
}

fn replace_pair(ids: &mut Vec<u32>, pair: Pair, merged: u32) {
    let (mut read, mut write) = (0, 0);
    while read < ids.len() {
        if ids[read] == pair.0 && ids.get(read + 1) == Some(&pair.1) {
            ids[write] = merged;
            read += 2;
        } else {
            ids[write] = ids[read];
            read += 1;
        }
        write += 1;
    }
    ids.truncate(write);
}
