//! Tokenizers: data and markup, exact decoding, choices, training.

use rlrf_model::Tokenizer;
use rlrf_model::preset::SPECIAL_TOKENS;
use serde_json::{Value, json};

use crate::{assert_names, byte_level, fixture, metaspace};

const HARD_TEXTS: [&str; 6] = [
    "hello world",
    "Grüße, 世界! 👩‍👩‍👧 e\u{301} \u{FEFF}",
    "  two  spaces\n\n\ttab\r\n",
    "<|im_end|> </s> <s> <unk>",
    "12 + 345 = 357",
    "\u{0}\u{7F}\u{E000}\u{F8F0}0\u{F8F1}",
];

#[test]
fn data_survives_and_never_gives_a_special_token() {
    for tokenizer in [byte_level(), metaspace()] {
        for text in HARD_TEXTS {
            let tokens = tokenizer.encode(text).unwrap();
            assert!(tokens.iter().all(|&token| token > 2), "{text:?} gives {tokens:?}");
            assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        }
        assert!(tokenizer.encode("").unwrap().is_empty());
    }
}

#[test]
fn markup_gives_special_tokens_and_decoding_leaves_them_out() {
    let tokenizer = byte_level();
    let tokens = tokenizer.encode_markup("<|im_start|>user\n<|im_end|>").unwrap();
    assert_eq!((tokens[0], *tokens.last().unwrap()), (1, 2));
    assert_eq!(tokenizer.decode(&tokens).unwrap(), "user\n");
    assert_eq!(SPECIAL_TOKENS.map(|token| tokenizer.id(token)), [Some(0), Some(1), Some(2)]);
    assert_eq!(
        (tokenizer.id("no such token"), tokenizer.vocab_size()),
        (None, tokenizer.largest_id() as usize + 1)
    );
}

#[test]
fn a_special_token_that_data_could_merge_into_is_spelt_out() {
    let mut json: Value = serde_json::from_slice(metaspace().json()).unwrap();
    json["model"]["vocab"]["hi"] = 271.into();
    json["model"]["merges"] = json!([["h", "i"]]);
    json["added_tokens"]
        .as_array_mut()
        .unwrap()
        .push(json!({"id": 271, "content": "hi", "single_word": false,
        "lstrip": false, "rstrip": false, "normalized": false, "special": true}));
    let tokenizer = Tokenizer::from_json(json.to_string().into_bytes()).unwrap();
    assert_eq!(tokenizer.encode_markup("hi").unwrap(), [271]);
    let tokens = tokenizer.encode("[hi] hi").unwrap();
    assert!(!tokens.contains(&271));
    assert_eq!(tokenizer.decode(&tokens).unwrap(), "[hi] hi");
}

#[test]
fn a_continuation_has_no_space_in_front() {
    let tokenizer = metaspace();
    let id = |token: &str| tokenizer.id(token).unwrap();
    assert_eq!(tokenizer.encode("hi").unwrap(), [id("▁hi")]);
    assert_eq!(tokenizer.encode_continuation("hi").unwrap(), [id("h"), id("i")]);
    assert_eq!(tokenizer.encode_continuation(" hi").unwrap(), [id("▁hi")]);
    let byte_level = byte_level();
    assert_eq!(byte_level.encode("hello").unwrap(), byte_level.encode_continuation("hello").unwrap());
}

#[test]
fn choices_differ_in_one_token() {
    let levels = ["1", "2", "3"];
    for tokenizer in [byte_level(), metaspace()] {
        let (shared, distinguishing) = tokenizer.choice("\nLevel: ", &levels).unwrap();
        assert_eq!(shared.len() + 1, tokenizer.encode_continuation("\nLevel: 1").unwrap().len());
        for (level, token) in levels.iter().zip(&distinguishing) {
            let whole = [&shared[..], &[*token]].concat();
            assert_eq!(whole, tokenizer.encode_continuation(&format!("\nLevel: {level}")).unwrap());
        }
        for options in [&["1", "10"][..], &["1"], &[], &["1", "1"], &["12", "34"], &["", "1"]] {
            assert_names(tokenizer.choice("\nLevel: ", options), &["exactly one token"]);
        }
    }
}

#[test]
fn training_is_deterministic() {
    // Many pairs of equal frequency, and more than one way to merge the same token.
    let texts =
        || (0..200).map(|n| format!("abc bcd cde abcd{} {}", ["x", "y", "zz"][n % 3], "abab".repeat(n % 5)));
    let first = Tokenizer::train_bpe(texts(), 400, &SPECIAL_TOKENS).unwrap();
    for _ in 0..5 {
        assert_eq!(Tokenizer::train_bpe(texts(), 400, &SPECIAL_TOKENS).unwrap().json(), first.json());
    }
    let tokens: Vec<String> = (0..first.vocab_size() as u32).map(|id| first.token(id).unwrap()).collect();
    assert_eq!(tokens[..3], SPECIAL_TOKENS);
    assert!(tokens[3..259].iter().all(|token| token.chars().count() == 1));
    assert!(tokens.contains(&"abab".to_owned()) && tokens.len() < 400);
}

#[test]
fn training_merges_the_most_frequent_pair_first() {
    let texts = ["aab aab aab aab", "xy xy xy"].map(str::to_owned);
    let tokenizer = Tokenizer::train_bpe(texts.into_iter(), 259, &[]).unwrap();
    // "aa" and "ab" occur 4 times; " a" and "xy" 3 times, later " aab": ties go to the lower ids.
    assert_eq!([256, 257, 258].map(|id| tokenizer.token(id).unwrap()), ["aa", "aab", "xy"]);
}

#[test]
fn digits_are_tokens_of_their_own() {
    let tokenizer =
        Tokenizer::train_bpe(std::iter::repeat_n("1234 1234".to_owned(), 50), 300, &SPECIAL_TOKENS).unwrap();
    assert_eq!(
        tokenizer.encode("1234").unwrap(),
        ["1", "2", "3", "4"].map(|digit| tokenizer.id(digit).unwrap())
    );
}

#[test]
fn impossible_training_is_refused() {
    let train = |size, special: &[&str]| Tokenizer::train_bpe(std::iter::empty(), size, special);
    assert_names(train(258, &SPECIAL_TOKENS), &["258", "at least 259"]);
    assert_names(train(300, &["<a>", "<a>"]), &["<a>", "twice"]);
    assert_eq!(train(259, &SPECIAL_TOKENS).unwrap().vocab_size(), 259);
    // A special token that the text itself could merge into stays out of its reach.
    let tokenizer =
        Tokenizer::train_bpe(std::iter::repeat_n("hello".to_owned(), 9), 300, &["hello"]).unwrap();
    assert_eq!(tokenizer.decode(&tokenizer.encode("hello").unwrap()).unwrap(), "hello");
    assert!(!tokenizer.encode("hello").unwrap().contains(&0));
}

#[test]
fn unreadable_tokenizers_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert_names(Tokenizer::load(folder.path()), &["tokenizer.json", "cannot read"]);
    std::fs::write(folder.path().join("tokenizer.model"), "").unwrap();
    assert_names(Tokenizer::load(folder.path()), &["tokenizer.json", "save_pretrained"]);
    for garbage in ["", "{", "{}", "[1]", r#"{"model": {"type": "BPE"}}"#] {
        std::fs::write(folder.path().join("tokenizer.json"), garbage).unwrap();
        assert_names(Tokenizer::load(folder.path()), &["tokenizer.json"]);
    }
}

#[test]
fn stories260k_encodes_as_sentencepiece_does() {
    let folder = fixture("stories260K");
    let tokenizer = Tokenizer::load(&folder).unwrap();
    let expected: Value =
        serde_json::from_slice(&std::fs::read(folder.join("expected_tokens.json")).unwrap()).unwrap();
    for case in expected.as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        let tokens = tokenizer.encode(text).unwrap();
        assert_eq!(json!(tokens), case["tokens"], "{text:?}");
        assert_eq!(tokenizer.decode(&tokens).unwrap(), case["decoded"].as_str().unwrap());
    }
}
