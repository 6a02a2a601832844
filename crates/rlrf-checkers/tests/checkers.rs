//! What each kind of checker finds, and which settings it refuses.

#![allow(clippy::unwrap_used, reason = "a test")]

use rlrf_checkers::checker;
use rlrf_method::seam::Check;
use rlrf_method::{CheckerConfig, Instruction, Message};
use serde_json::json;

fn instruction(answer: Option<&str>) -> Instruction {
    Instruction {
        id: "i7".into(),
        messages: vec![Message::user("q")],
        reference: None,
        answer: answer.map(String::from),
    }
}

fn config(settings: serde_json::Value) -> CheckerConfig {
    serde_json::from_value(settings).unwrap()
}

fn check(settings: &serde_json::Value, answer: Option<&str>, response: &str) -> Check {
    checker(&config(settings.clone())).unwrap().check(&instruction(answer), response).unwrap()
}

/// Each response with its level and a part of its critique.
fn holds(settings: serde_json::Value, answer: Option<&str>, expected: &[(&str, u8, &str)]) {
    for (response, level, critique) in expected {
        let found = check(&settings, answer, response);
        assert_eq!((found.level, found.correct), (*level, *level == 3), "{response:?}: {found:?}");
        assert!(found.critique.contains(critique), "{response:?}: {found:?} lacks {critique:?}");
    }
}

#[test]
fn numbers_are_compared_exactly() {
    let answers = [
        ("So it is 41, no: 42 apples.", 3, "The final number, 42, is right."),
        ("41.9 + 0.1\n#### 42\nThank you for 2 minutes", 3, "42"),
        ("It costs $42.00.", 3, "42"),
        ("84/2", 3, "42"),
        ("42 or 43", 1, "The final number, 43, is too large."),
        ("-42", 1, "-42, is too small"),
        ("forty-two", 1, "no number"),
        ("", 1, "no number"),
    ];
    holds(json!({ "kind": "number" }), Some("42"), &answers);
    assert!(!check(&json!({ "kind": "number" }), Some("1"), "one").readable);
    let gold = "6 * 7 = <<6*7=42>>42\n#### 42";
    holds(json!({ "kind": "number" }), Some(gold), &[("42", 3, "right"), ("7", 1, "too small")]);
}

#[test]
fn the_bound_of_a_tolerance_is_within_it() {
    let near = json!({ "kind": "number", "tolerance": 0.1 });
    holds(
        near,
        Some("0.3"),
        &[("0.2", 3, ""), ("0.4", 3, ""), ("0.41", 1, "too large"), ("0.199", 1, "too small")],
    );
}

#[test]
fn patterns_must_and_must_not_match() {
    let both = json!({ "kind": "regex", "must_match": r"(?m)^\d+ steps$", "must_not_match": "(?i)as an ai" });
    holds(
        both,
        None,
        &[
            ("First:\n3 steps\nDone", 3, "form asked for"),
            ("3 steps\nAs an AI I cannot", 2, "Line 2 has \"As an AI\", which the pattern"),
            ("three steps", 2, "Nothing in the response matches the pattern `(?m)^\\d+ steps$`"),
            ("as an AI", 1, "Nothing in the response"),
        ],
    );
    let one = json!({ "kind": "regex", "must_not_match": "x" });
    holds(one, None, &[("xyz", 1, "Line 1"), ("yz", 3, "")]);
}

#[test]
fn json_is_held_to_its_schema() {
    let schema = json!({
        "type": "object",
        "properties": { "name": { "type": "string" }, "age": { "type": "integer", "minimum": 0 } },
        "required": ["name", "age"],
    });
    let expected = [
        ("{\"name\": \"Eve\", \"age\": 7}", 3, "form asked for"),
        ("```json\n{\"name\": \"Eve\", \"age\": 7}\n```", 3, ""),
        ("{\"name\": \"Eve\", \"age\": -7}", 2, "/age must be at least 0"),
        ("{\"age\": 7}", 2, "it lacks \"name\""),
        ("[]", 2, "it must be an object"),
        ("{\"name\": \"Eve\", \"age\": 7", 1, "not JSON"),
        ("Here it is: {\"name\": \"Eve\", \"age\": 7}", 1, "not JSON"),
        ("", 1, "not JSON"),
    ];
    holds(json!({ "kind": "json-schema", "schema": schema }), None, &expected);
    holds(json!({ "kind": "json-schema", "schema": schema.to_string() }), None, &expected);
    let list = json!({ "kind": "json-schema", "schema": { "items": { "type": "integer" } } });
    holds(list, None, &[("[\"a\", \"b\", \"c\", \"d\", \"e\"]", 2, "/0 must be an integer; ")]);
    let list = json!({ "kind": "json-schema", "schema": { "items": { "type": "integer" } } });
    holds(
        list,
        None,
        &[("[\"a\", \"b\", \"c\", \"d\", \"e\"]", 2, "; and 2 faults more"), ("[1, 2.0]", 3, "")],
    );
}

/// Each keyword with a value that keeps it and one that does not, as the specification of JSON Schema has it.
#[test]
fn every_keyword_is_kept() {
    for (schema, good, faulty) in [
        (json!({ "type": ["string", "null"] }), json!(null), json!(1)),
        (json!({ "type": "integer" }), json!(1.0), json!(1.5)),
        (json!({ "type": "number" }), json!(1.5), json!("1.5")),
        (json!({ "enum": [1, "a"] }), json!(1.0), json!(2)),
        (json!({ "const": null }), json!(null), json!(0)),
        (json!({ "const": { "a": [1] } }), json!({ "a": [1.0] }), json!({ "a": [1], "b": 1 })),
        (json!({ "properties": { "a": { "type": "array" } } }), json!({ "b": 1 }), json!({ "a": 1 })),
        (json!({ "required": ["a"] }), json!({ "a": null }), json!({})),
        (
            json!({ "properties": { "a": true }, "additionalProperties": false }),
            json!({ "a": 1 }),
            json!({ "b": 1 }),
        ),
        (json!({ "additionalProperties": { "type": "string" } }), json!({ "a": "b" }), json!({ "a": 1 })),
        (json!({ "minItems": 1, "maxItems": 2 }), json!([1, 2]), json!([1, 2, 3])),
        (json!({ "minItems": 1 }), json!([1]), json!([])),
        (json!({ "minLength": 2 }), json!("éé"), json!("é")),
        (json!({ "maxLength": 2 }), json!("éé"), json!("ééé")),
        (json!({ "pattern": "^a+$" }), json!("aa"), json!("ab")),
        (json!({ "minimum": 1, "maximum": 2 }), json!(2), json!(2.5)),
        (json!({ "minimum": 1 }), json!(1), json!(0)),
        (json!({ "exclusiveMinimum": 1 }), json!(1.1), json!(1)),
        (json!({ "exclusiveMaximum": 1 }), json!(0.9), json!(1)),
        (json!({ "anyOf": [{ "type": "string" }, { "minimum": 3 }] }), json!("a"), json!(2)),
        (
            json!({ "items": { "required": ["a"], "title": "t" }, "$comment": "c" }),
            json!([{ "a": 1 }]),
            json!([{}]),
        ),
    ] {
        let settings = json!({ "kind": "json-schema", "schema": schema.to_string() });
        assert_eq!(check(&settings, None, &good.to_string()).level, 3, "{schema} {good}");
        assert_eq!(check(&settings, None, &faulty.to_string()).level, 2, "{schema} {faulty}");
    }
    // A keyword is about values of its own type alone.
    let settings =
        json!({ "kind": "json-schema", "schema": { "minLength": 2, "minimum": 1, "required": ["a"] } });
    holds(settings, None, &[("[]", 3, ""), ("true", 3, "")]);
}

#[test]
fn a_choice_is_read_where_it_is_clear() {
    let expected = [
        ("B", 3, "The choice, B, is right."),
        ("(B)", 3, ""),
        ("B. Because A is too small.", 3, ""),
        ("**B**", 3, ""),
        ("The answer is (B).", 3, ""),
        ("A looks right, but the answer is B", 3, ""),
        ("Answer: A? No. Final answer: **B**", 3, ""),
        ("\\boxed{B}", 3, ""),
        ("Only (B) holds: (B) it is", 3, ""),
        ("The answer is A", 1, "The choice, A, is wrong."),
        ("D) Bananas", 1, "D"),
        ("(A) or (B)", 1, "does not say clearly"),
        ("A banana is best.", 1, "does not say clearly"),
        ("The answer is An apple", 1, "does not say clearly"),
        ("The answer is E", 1, "does not say clearly"),
        ("", 1, "does not say clearly"),
    ];
    for answer in ["B", "(b)", "B."] {
        holds(json!({ "kind": "choice", "letters": "ABCD" }), Some(answer), &expected);
    }
}

#[test]
fn texts_must_and_must_not_be_there() {
    let demands =
        json!({ "kind": "contains", "all": ["Sun", "moon"], "any": ["star", "planet"], "none": ["aliens"] });
    holds(
        demands,
        None,
        &[
            ("The SUN, the Moon and a planet", 3, ""),
            ("The sun and a star", 2, "The response lacks \"moon\"."),
            ("A star", 1, "lacks \"Sun\" and \"moon\""),
            ("Sun, moon", 2, "none of \"star\" and \"planet\""),
            ("Sun, moon, star, aliens", 2, "must not have \"aliens\""),
            ("", 1, "lacks"),
        ],
    );
    let cased = json!({ "kind": "contains", "all": ["Sun"], "ignore_case": false });
    holds(cased, None, &[("sun", 1, "lacks \"Sun\""), ("Sun", 3, "")]);
}

#[test]
fn a_length_just_missed_is_level_two() {
    let words = json!({ "kind": "length", "min": 5, "max": 10 });
    let text = |words: usize| vec!["é"; words].join(" ");
    for (length, level) in [(0, 1), (3, 1), (4, 2), (5, 3), (10, 3), (11, 2), (12, 2), (13, 1)] {
        let found = check(&words, None, &text(length));
        assert_eq!(found.level, level, "{length}: {found:?}");
    }
    assert_eq!(check(&words, None, &text(4)).critique, "The response has 4 words; it must have at least 5.");
    let characters = json!({ "kind": "length", "unit": "characters", "max": 3, "near": 0.0 });
    holds(characters, None, &[(" ééé\n", 3, "3 characters"), ("éééé", 1, "at most 3")]);
    let sentences = json!({ "kind": "length", "unit": "sentences", "min": 2 });
    holds(
        sentences,
        None,
        &[("It rains. Dr. Who stays in.", 3, "2 sentences"), ("It rains", 1, "1 sentences"), ("", 1, "")],
    );
}

#[test]
fn an_arithmetic_expression_is_computed() {
    let arithmetic = json!({ "kind": "arithmetic" });
    assert_eq!(check(&arithmetic, Some("7.5"), "(14 + 16) / 4").level, 3);
    assert!(!check(&arithmetic, Some("7.5"), "14 + 16").correct);
}

#[test]
fn an_instruction_without_what_is_needed_is_named() {
    for (settings, answer, expected) in [
        (json!({ "kind": "number" }), None, "instruction i7: has no `answer`"),
        (json!({ "kind": "number" }), Some("many"), "instruction i7: `answer` is \"many\""),
        (json!({ "kind": "choice" }), None, "instruction i7: has no `answer`"),
        (json!({ "kind": "choice", "letters": "AB" }), Some("C"), "one of the letters AB"),
        (json!({ "kind": "choice" }), Some("Bees"), "instruction i7: `answer` is \"Bees\""),
        (json!({ "kind": "arithmetic" }), None, "instruction i7"),
    ] {
        let checker = checker(&config(settings.clone())).unwrap();
        let message = checker.check(&instruction(answer), "").unwrap_err().to_string();
        assert!(message.contains(expected), "{settings}: {message}");
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (settings, expected) in [
        (json!({ "kind": "number", "tolerance": -1.0 }), "checker.tolerance = -1"),
        (json!({ "kind": "regex" }), "checker.must_match = (none)"),
        (json!({ "kind": "regex", "must_match": "(" }), "checker.must_match = \"(\""),
        (json!({ "kind": "regex", "must_not_match": "\\w{1000}{1000}" }), "checker.must_not_match"),
        (json!({ "kind": "json-schema", "schema": "{" }), "checker.schema = \"{\": is not JSON"),
        (json!({ "kind": "json-schema", "schema": 3 }), "checker.schema = 3: 3 is no schema"),
        (json!({ "kind": "json-schema", "schema": { "type": "text" } }), "unknown variant `text`"),
        (json!({ "kind": "json-schema", "schema": { "items": { "$ref": "#" } } }), "unknown field `$ref`"),
        (json!({ "kind": "json-schema", "schema": { "pattern": "(" } }), "unclosed group"),
        (json!({ "kind": "choice", "letters": "A" }), "checker.letters = \"A\""),
        (json!({ "kind": "choice", "letters": "ABA" }), "checker.letters"),
        (json!({ "kind": "choice", "letters": "ab" }), "checker.letters"),
        (json!({ "kind": "contains" }), "checker.all = []"),
        (json!({ "kind": "contains", "none": [""] }), "checker.none"),
        (json!({ "kind": "prose", "words": " " }), "checker.words"),
        (json!({ "kind": "length" }), "checker.min = (none)"),
        (json!({ "kind": "length", "min": 3, "max": 2 }), "checker.max = 2"),
        (json!({ "kind": "length", "max": 0 }), "checker.max = 0"),
        (json!({ "kind": "length", "max": 2, "near": 2.0 }), "checker.near = 2"),
    ] {
        let message = checker(&config(settings.clone())).err().unwrap().to_string();
        assert!(message.contains(expected), "{settings}: {message} lacks {expected}");
    }
}

#[test]
fn every_setting_is_part_of_the_identity() {
    let digest = |settings: serde_json::Value| checker(&config(settings)).unwrap().digest();
    let digests = [
        digest(json!({ "kind": "length", "max": 2 })),
        digest(json!({ "kind": "length", "max": 3 })),
        digest(json!({ "kind": "length", "max": 2, "unit": "characters" })),
        digest(json!({ "kind": "number" })),
        digest(json!({ "kind": "number", "tolerance": 1 })),
    ];
    for (place, digest) in digests.iter().enumerate() {
        assert!(!digests[..place].contains(digest));
    }
    assert_eq!(digests[0], digest(json!({ "kind": "length", "max": 2, "unit": "words" })));
}

#[test]
fn the_parts_of_the_answer_are_words_that_must_be_there() {
    let wanted = json!({ "kind": "contains", "answer": true, "whole_words": true });
    let expected = [
        ("The Cat saw a red sun.", 3, "has what it must"),
        ("A cat in the sun.", 2, "lacks \"red\""),
        ("A cat, tired on a sunny day.", 1, "lacks \"red\" and \"sun\""),
        ("", 1, "lacks \"cat\", \"red\" and \"sun\""),
    ];
    holds(wanted.clone(), Some("cat, red,sun"), &expected);
    let beside = json!({ "kind": "contains", "answer": true, "all": ["!"] });
    holds(beside, Some("red"), &[("Tired!", 3, ""), ("Tired.", 1, "lacks \"!\"")]);
    for answer in [None, Some(" , ")] {
        let message = checker(&config(wanted.clone())).unwrap().check(&instruction(answer), "x").unwrap_err();
        assert!(message.to_string().contains("instruction i7"), "{message}");
    }
}

#[test]
fn prose_is_whole_sentences_of_known_words() {
    let prose = json!({ "kind": "prose", "words": "the a cat saw Tom's well-known hat\nit is" });
    let expected = [
        ("The cat saw Tom's hat. It is a well-known \"hat\"!", 3, "known words"),
        ("The cat saw it. It is Tom's cat.", 3, "known words"),
        ("The cat saw a hatty.", 2, "\"hatty\" is no known word"),
        ("The the cat saw it.", 2, "\"the\" stands twice"),
        ("The cat saw it", 2, "no end"),
        ("the cat sawed it", 1, "\"sawed\" is no known word"),
        ("", 1, "no end"),
    ];
    holds(prose, None, &expected);
}
