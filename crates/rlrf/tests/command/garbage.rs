//! Garbage in: one clear error, no panic, and a finished run stays as it was.

use std::fs;

use rlrf_store::RunStore;
use serde_json::{Value, json};

use crate::folder::{CONFIGURATION, Finished, Folder, jsonl, problems};

/// A problem as GSM8K has it.
const GSM8K: &str = "{\"question\": \"q\", \"answer\": \"1 + 1\\n#### 2\"}";

/// Something wrong, what to call, and what the error must say.
struct Garbage {
    prepare: fn(&Folder),
    arguments: &'static str,
    expected: &'static [&'static str],
}

const RUN: &str = "run bad.toml --out finished";
const SAMPLE: &str = "sample --model bad --instructions data/instructions.jsonl --out out.jsonl";

fn nothing(_: &Folder) {}

/// The configuration with a piece replaced.
fn configure(folder: &Folder, piece: &str, with: &str) {
    assert!(CONFIGURATION.contains(piece), "{piece}");
    folder.write("bad.toml", CONFIGURATION.replace(piece, with));
}

/// The configuration with other instructions.
fn instruct(folder: &Folder, lines: impl AsRef<[u8]>) {
    folder.write("bad.jsonl", lines);
    configure(folder, "data/instructions.jsonl", "bad.jsonl");
}

/// A copy of the policy with a field of one of its JSON files changed.
fn remodel(folder: &Folder, file: &str, field: &str, value: Value) {
    folder.copy("finished/models/M0", "bad");
    let name = format!("bad/{file}");
    let mut object: Value = serde_json::from_slice(&folder.read(&name)).unwrap();
    object[field] = value;
    folder.write(&name, object.to_string());
}

/// A copy of the policy without one of its files, or with another content.
fn replace(folder: &Folder, file: &str, content: Option<&[u8]>) {
    folder.copy("finished/models/M0", "bad");
    match content {
        Some(content) => folder.write(&format!("bad/{file}"), content),
        None => fs::remove_file(folder.path(&format!("bad/{file}"))).unwrap(),
    }
}

fn judged(aspect: &str) -> String {
    let feedback =
        json!({ "aspect": aspect, "critique": "c", "level": 2, "source": "model", "parse": "parsed" });
    jsonl(&[json!({ "prompt": "q", "candidates": [{ "text": "a", "feedback": [feedback], "score": 2.0 }] })])
}

const INSTRUCTIONS: &[Garbage] = &[
    Garbage {
        prepare: |f| instruct(f, "{\"prompt\": \"a\"}\n{\"prompt\": "),
        arguments: RUN,
        expected: &["bad.jsonl:2: EOF", "one JSON object a line"],
    },
    Garbage {
        prepare: |f| instruct(f, "{\"question\": \"a\"}"),
        arguments: RUN,
        expected: &["bad.jsonl:1: needs a field `prompt`"],
    },
    Garbage { prepare: |f| instruct(f, ""), arguments: RUN, expected: &["bad.jsonl: holds no instruction"] },
    Garbage {
        prepare: |f| instruct(f, "{\"prompt\": \"a\"}\n{\"prompt\": \"a\"}"),
        arguments: RUN,
        expected: &["bad.jsonl:2: is the same as line 1"],
    },
    Garbage {
        prepare: |f| {
            let long = json!({ "prompt": "a ".repeat(2000), "reference": "1", "answer": 1 });
            f.write("bad.jsonl", jsonl(&[json!({ "prompt": "a", "reference": "1", "answer": 1 }), long]));
            let other = CONFIGURATION.replace("data/instructions.jsonl", "bad.jsonl");
            let new = "[policy]\nnew = { preset = \"tiny\", vocab_size = 320 }";
            assert!(other.contains(new));
            f.write("bad.toml", other.replace(new, "[policy]\nmodel = \"finished/models/M0\""));
        },
        arguments: "run bad.toml --out other",
        expected: &["bad.jsonl: record 2, \"a a", "leaves no room in the model's context of 512"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run finished/run.toml --out other",
        expected: &["finished/run.toml: is the record of a run"],
    },
    Garbage {
        prepare: |f| instruct(f, "\n{\"prompt\": 3}"),
        arguments: RUN,
        expected: &["bad.jsonl:2: `prompt` is a number"],
    },
    Garbage {
        prepare: |f| instruct(f, b"{\"prompt\": \"\xff\"}"),
        arguments: RUN,
        expected: &["bad.jsonl:1: not UTF-8"],
    },
    Garbage {
        prepare: |f| instruct(f, "{\"prompt\": \"\"}"),
        arguments: RUN,
        expected: &["bad.jsonl:1: the prompt is empty"],
    },
    Garbage {
        prepare: |f| instruct(f, "{\"id\": 1, \"prompt\": \"a\"}\n{\"id\": 1, \"prompt\": \"b\"}"),
        arguments: RUN,
        expected: &["bad.jsonl:2: id \"1\" was used on line 1"],
    },
    Garbage {
        prepare: |f| instruct(f, "{\"messages\": [{\"role\": \"robot\", \"content\": \"a\"}]}"),
        arguments: RUN,
        expected: &["bad.jsonl:1: unknown variant `robot`"],
    },
    Garbage {
        prepare: |f| instruct(f, "{\"prompt\": \"a\", \"answer\": \"about three\"}"),
        arguments: RUN,
        expected: &["bad.jsonl", "`answer` \"about three\" is not a number"],
    },
    Garbage {
        prepare: |f| instruct(f, "{\"prompt\": \"a\"}"),
        arguments: RUN,
        expected: &["bad.jsonl", "needs an `answer`"],
    },
    Garbage {
        prepare: |f| instruct(f, jsonl(&problems("Sue", 1))),
        arguments: RUN,
        expected: &["also in the evaluation set \"heldout\"", "Sue-0", "allow_overlap"],
    },
    Garbage {
        prepare: |f| f.write("bad.jsonl", jsonl(&problems("Sue", 1))),
        arguments: "run rlrf.toml --out finished --set demonstrations.problems=bad.jsonl",
        expected: &["also in the evaluation set \"heldout\"", "problem 1 of bad.jsonl"],
    },
    Garbage {
        prepare: |f| {
            let prompt = json!([
                { "role": "system", "content": "Be brief." },
                { "role": "user", "content": problems("Sue", 1)[0]["prompt"].as_str().unwrap().to_uppercase() },
            ]);
            f.write("bad.jsonl", jsonl(&[json!({ "prompt": prompt, "completion": "a" })]));
        },
        arguments: "run rlrf.toml --out finished --set policy.sft.files=[\"bad.jsonl\"]",
        expected: &["also in the evaluation set \"heldout\"", "demonstration 1 of bad.jsonl"],
    },
    Garbage {
        prepare: |f| configure(f, "data/instructions.jsonl", "data"),
        arguments: RUN,
        expected: &["data: cannot read"],
    },
    Garbage {
        prepare: |f| f.write("long.jsonl", jsonl(&[json!({ "prompt": "long ".repeat(600) })])),
        arguments: "sample --model finished/models/M0 --instructions long.jsonl --out out.jsonl",
        expected: &["\"long long", "context of 512", "shorten the prompt"],
    },
];

const CONFIGURATIONS: &[Garbage] = &[
    Garbage { prepare: nothing, arguments: "run absent.toml", expected: &["absent.toml: cannot read"] },
    Garbage {
        prepare: |f| f.write("bad.toml", b"name = \"\xff\""),
        arguments: RUN,
        expected: &["bad.toml: not UTF-8"],
    },
    Garbage {
        prepare: |f| configure(f, "seed = 7", "seeds = 7"),
        arguments: RUN,
        expected: &["bad.toml:3: unknown field `seeds`", "did you mean `seed`?"],
    },
    Garbage {
        prepare: |f| configure(f, "learning_rate", "learning_rat"),
        arguments: RUN,
        expected: &["unknown field `learning_rat`", "did you mean `learning_rate`?"],
    },
    Garbage {
        prepare: |f| configure(f, "seed = 7", "seed = \"seven\""),
        arguments: RUN,
        expected: &["bad.toml:3: invalid type"],
    },
    Garbage { prepare: |f| configure(f, "seed = 7", "seed = "), arguments: RUN, expected: &["bad.toml:3: "] },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set smaple.n=2",
        expected: &["--set smaple.n=2: unknown field `smaple`", "did you mean `sample`?"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set sample.n=0",
        expected: &["sample.n = 0: must be at least 1"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set dpo.training.learning_rate=-1",
        expected: &["dpo.training", "learning_rate = -1"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set engine.cache_tokens=0",
        expected: &["cache_tokens = 0"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out other --set engine.cache_tokens=16",
        expected: &["raise cache_tokens"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.aspects=[\"speed\"]",
        expected: &["feedback.aspects = \"speed\": no such aspect", "logical correctness"],
    },
    Garbage {
        prepare: |f| f.write("aspects.toml", "[[aspect]]\nname = \"speed\"\n"),
        arguments: "run rlrf.toml --out finished --set feedback.aspects_file=aspects.toml",
        expected: &["aspects.toml:1: missing field `criterion`"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.weights={\"speed\"=2.0}",
        expected: &["feedback.weights: \"speed\" is not among feedback.aspects (logical correctness)"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.weights={\"logical\\u0020correctness\"=0.0}",
        expected: &["feedback.weights: \"logical correctness\" = 0: must be above 0"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.checkers={\"speed\"={kind=\"number\"}}",
        expected: &["feedback.checkers: \"speed\" is not among feedback.aspects"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.checkers={\"logical\\u0020correctness\"={kind=\"regex\",must_match=\"(\"}}",
        expected: &["feedback.checkers: \"logical correctness\"", "checker.must_match = \"(\""],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.checkers={\"logical\\u0020correctness\"={kind=\"regex\",must=\"x\"}}",
        expected: &["unknown field `must`", "did you mean `must_match`?"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.checkers={\"logical\\u0020correctness\"={kind=\"choice\"}}",
        expected: &[
            "aspect \"logical correctness\": data/instructions.jsonl: record 1: instruction Tom-0: `answer` is \"15\"",
        ],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.choose={most=1}",
        expected: &["feedback.choose.most = 1: there are 1 aspects without a checker"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.choose={least=1}",
        expected: &["unknown field `least`"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.choose={most=1} --set feedback.source=checker",
        expected: &["feedback.choose is for a model"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.retrieval={index=\"data\"}",
        expected: &["data", "index.json"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.retrieval={index=\"data\",passages=0}",
        expected: &["feedback.retrieval.passages = 0"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set feedback.retrieval={passages=2}",
        expected: &["missing field `index`"],
    },
    Garbage {
        prepare: |f| f.write("bad.jinja", "{{ aspect }}"),
        arguments: "run rlrf.toml --out finished --set templates.choose=bad.jinja",
        expected: &["template choose: there is no variable `aspect`"],
    },
    Garbage {
        prepare: |f| f.write("bad.jinja", "{% for item in feedback %}"),
        arguments: "run rlrf.toml --out finished --set templates.refine=bad.jinja",
        expected: &["template refine: ", "(in refine:1)"],
    },
    Garbage {
        prepare: |f| f.write("bad.jinja", "{{ respnse }}"),
        arguments: "run rlrf.toml --out finished --set templates.feedback=bad.jinja",
        expected: &["template feedback: there is no variable `respnse`"],
    },
    Garbage {
        prepare: |f| configure(f, "checker = \"arithmetic\"", ""),
        arguments: RUN,
        expected: &["evaluation.sets needs `checker`"],
    },
    Garbage {
        prepare: |f| configure(f, "new = { preset = \"tiny\", vocab_size = 320 }", ""),
        arguments: "run bad.toml --out other",
        expected: &["name the policy"],
    },
    Garbage {
        prepare: |f| configure(f, "name = \"other\"", "name = \"heldout\""),
        arguments: RUN,
        expected: &["two sets of the name \"heldout\""],
    },
    Garbage {
        prepare: |f| f.write("bad.jinja", "{{ instruction.words.first }}"),
        arguments: "run rlrf.toml --out finished --set templates.feedback=bad.jinja",
        expected: &["template feedback: "],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out other --set feedback.source=checker",
        expected: &["`feedback.new`", "set feedback.source = \"model\", or take `feedback.new` out"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out other --set policy.model=absent",
        expected: &["give `policy.model` or `policy.new`, not both"],
    },
    Garbage {
        prepare: |f| configure(f, "new = { preset = \"tiny\", vocab_size = 320 }", "model = \"absent\""),
        arguments: "run bad.toml --out other",
        expected: &["absent: is not a folder; a model is a folder"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out other --set feedback.sft.demonstrations=[]",
        expected: &["`feedback.sft` yields no demonstrations"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out other --set sample.sampling.stop=[\"\"]",
        expected: &["sample.sampling.stop"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out other --set policy.new.preset=huge",
        expected: &["`huge` is not the name of a preset", "tiny"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out other --set policy.new.vocab_size=10",
        expected: &["vocab"],
    },
    Garbage {
        prepare: |f| {
            f.write(
                "bad.jsonl",
                "{\"template\": \"t\", \"numbers\": [\"1\"], \"equation\": \"+ number0 number9\"}",
            )
        },
        arguments: "run rlrf.toml --out finished --set demonstrations.problems=bad.jsonl",
        expected: &["bad.jsonl:1: `equation` \"+ number0 number9\""],
    },
];

const MODELS: &[Garbage] = &[
    Garbage {
        prepare: nothing,
        arguments: SAMPLE,
        expected: &["bad: is not a folder; a model is a folder in Hugging Face layout"],
    },
    Garbage { prepare: |f| f.write("bad/README", ""), arguments: SAMPLE, expected: &["bad/"] },
    Garbage {
        prepare: |f| remodel(f, "config.json", "architectures", json!(["MambaForCausalLM"])),
        arguments: SAMPLE,
        expected: &["bad/config.json: field `architectures`", "MambaForCausalLM", "LlamaForCausalLM"],
    },
    Garbage {
        prepare: |f| replace(f, "config.json", Some(b"{\"hidden_size\": ")),
        arguments: SAMPLE,
        expected: &["bad/config.json: "],
    },
    Garbage {
        prepare: |f| remodel(f, "config.json", "num_attention_heads", json!(0)),
        arguments: SAMPLE,
        expected: &["bad/config.json: field `num_attention_heads`"],
    },
    Garbage {
        prepare: |f| remodel(f, "config.json", "hidden_size", json!(u64::MAX)),
        arguments: SAMPLE,
        expected: &["bad/config.json: field `hidden_size`"],
    },
    Garbage {
        prepare: |f| remodel(f, "config.json", "intermediate_size", json!(1_u64 << 45)),
        arguments: SAMPLE,
        expected: &["bad/"],
    },
    Garbage {
        prepare: |f| remodel(f, "config.json", "intermediate_size", json!(64)),
        arguments: SAMPLE,
        expected: &["model.safetensors: tensor `model.layers.0.mlp.", "[96, 32]", "[64, 32]"],
    },
    Garbage {
        prepare: |f| remodel(f, "config.json", "num_hidden_layers", json!(3)),
        arguments: SAMPLE,
        expected: &["tensor `model.layers.2.", "missing"],
    },
    Garbage {
        prepare: |f| remodel(f, "config.json", "num_hidden_layers", json!(1)),
        arguments: SAMPLE,
        expected: &["tensor `model.layers.1."],
    },
    Garbage {
        prepare: |f| remodel(f, "config.json", "eos_token_id", json!(99_999)),
        arguments: SAMPLE,
        expected: &["bad/config.json: field `eos_token_id`", "99999"],
    },
    Garbage {
        prepare: |f| remodel(f, "config.json", "vocab_size", json!(100)),
        arguments: SAMPLE,
        expected: &["bad/"],
    },
    Garbage {
        prepare: |f| replace(f, "model.safetensors", None),
        arguments: SAMPLE,
        expected: &["bad", "model.safetensors"],
    },
    Garbage {
        prepare: |f| {
            let whole = f.read("finished/models/M0/model.safetensors");
            replace(f, "model.safetensors", Some(&whole[..whole.len() / 2]));
        },
        arguments: SAMPLE,
        expected: &["bad/model.safetensors: "],
    },
    Garbage {
        prepare: |f| replace(f, "model.safetensors", Some(&[0xff; 64])),
        arguments: SAMPLE,
        expected: &["bad/model.safetensors: "],
    },
    Garbage {
        prepare: |f| {
            let mut weights = f.read("finished/models/M0/model.safetensors");
            let end = weights.len();
            weights[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
            replace(f, "model.safetensors", Some(&weights));
        },
        arguments: SAMPLE,
        expected: &["bad/model.safetensors: tensor `", "finite"],
    },
    Garbage {
        prepare: |f| replace(f, "tokenizer.json", None),
        arguments: SAMPLE,
        expected: &["bad/tokenizer.json"],
    },
    Garbage {
        prepare: |f| replace(f, "tokenizer.json", Some(b"{\"model\": 1}")),
        arguments: SAMPLE,
        expected: &["bad/tokenizer.json: "],
    },
    Garbage {
        prepare: |f| remodel(f, "tokenizer_config.json", "chat_template", json!("{% for m in messages %}")),
        arguments: SAMPLE,
        expected: &["bad/tokenizer_config.json: ", "chat template"],
    },
    Garbage {
        prepare: |f| remodel(f, "tokenizer_config.json", "chat_template", json!("hello")),
        arguments: SAMPLE,
        expected: &["chat template"],
    },
];

const OUTPUTS: &[Garbage] = &[
    Garbage {
        prepare: |f| f.write("file", ""),
        arguments: "run rlrf.toml --out file/run",
        expected: &["file/run", "a file stands where a folder is needed"],
    },
    Garbage {
        prepare: |f| f.write("file", ""),
        arguments: "run rlrf.toml --out file",
        expected: &["file", "a file stands where a folder is needed"],
    },
    Garbage {
        prepare: nothing,
        arguments: "run rlrf.toml --out finished --set seed=8",
        expected: &["another configuration", "seed: 7 -> 8", "--out"],
    },
    Garbage {
        prepare: |f| {
            f.copy("finished", "copy");
            f.write("copy/run.db", [7; 8192]);
        },
        arguments: "run rlrf.toml --out copy",
        expected: &["copy/run.db is damaged or not a database"],
    },
    Garbage {
        prepare: |f| {
            f.copy("finished", "copy");
            let text = String::from_utf8(f.read("copy/run.toml")).unwrap();
            f.write("copy/run.toml", text.replace("seed = 7", "seed = 8"));
        },
        arguments: "run rlrf.toml --out copy",
        expected: &["copy", "seed: 8 -> 7"],
    },
    Garbage {
        prepare: |f| {
            f.copy("finished", "copy");
            f.copy("finished/models/M1", "copy/models/M0");
        },
        arguments: "run rlrf.toml --out copy",
        expected: &["copy/models/M0: the model is not the one that this run wrote"],
    },
    Garbage {
        prepare: |f| f.write("folder/file", ""),
        arguments: "sample --model finished/models/M0 --instructions data/other.jsonl --out folder",
        expected: &["--out folder: is a folder"],
    },
    Garbage {
        prepare: |f| f.write("folder/file", ""),
        arguments: "sft --model finished/models/M0 --data data/other.jsonl --out folder",
        expected: &["--out: folder: exists and holds file, which is no part of a model"],
    },
    Garbage {
        prepare: |f| {
            f.copy("finished/models/M0", "other");
            f.write("other/thesis.txt", "");
        },
        arguments: "sft --model finished/models/M0 --data data/other.jsonl --out other",
        expected: &["--out: other: exists and holds thesis.txt"],
    },
    Garbage {
        prepare: |f| f.write("p.jsonl", "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"b\"}"),
        arguments: "dpo --model finished/models/M0 --pairs p.jsonl --out finished/models/M0",
        expected: &["--out finished/models/M0: is what --model reads"],
    },
    Garbage {
        prepare: |f| f.copy("data", "other"),
        arguments: "sample --model finished/models/M0 --instructions other/other.jsonl --out other/other.jsonl",
        expected: &["--out other/other.jsonl: is what --instructions reads"],
    },
    Garbage {
        prepare: |f| f.write("other/thesis.txt", ""),
        arguments: "run rlrf.toml --out other",
        expected: &["other: is needed for this command's own files, but holds others"],
    },
    Garbage {
        prepare: |f| f.write("file", ""),
        arguments: "sample --model finished/models/M0 --instructions data/other.jsonl --out file/c.jsonl",
        expected: &["file/c.jsonl", "a file stands where a folder is needed"],
    },
    Garbage {
        prepare: |f| f.write("folder/file", ""),
        arguments: "model new --preset tiny --text data/other.jsonl --out folder",
        expected: &["--out folder: exists already"],
    },
];

const STAGES: &[Garbage] = &[
    Garbage {
        prepare: |f| f.write("c.jsonl", "{\"prompt\": \"q\", \"candidates\": []}"),
        arguments: "feedback --candidates c.jsonl --out j.jsonl --set checker=arithmetic",
        expected: &["c.jsonl:1: `candidates` is empty"],
    },
    Garbage {
        prepare: |f| {
            let text = "a ".repeat(2000);
            f.write("c.jsonl", jsonl(&[json!({ "prompt": "q", "candidates": [{ "text": text }] })]));
        },
        arguments: "feedback --model finished/models/M0 --candidates c.jsonl --out j.jsonl",
        expected: &["nobody could be judged: of 3 judgements none has a level", "the model's context of 512"],
    },
    Garbage {
        prepare: |f| {
            let candidates =
                json!([{ "text": "a", "tokens": [5, 6, 7], "score": 3.0 }, { "text": "b", "score": 1.0 }]);
            f.write("c.jsonl", jsonl(&[json!({ "prompt": "q", "candidates": candidates })]));
        },
        arguments: "grpo --model finished/models/M0 --candidates c.jsonl --out new",
        expected: &["c.jsonl", "the `tokens` of the response \"a\"... are not those of its text"],
    },
    Garbage {
        prepare: |f| {
            let unknown = json!({ "text": "", "tokens": [99_999_999], "complete": false, "score": 3.0 });
            let candidates = json!([unknown, { "text": "b", "score": 1.0 }]);
            f.write("c.jsonl", jsonl(&[json!({ "prompt": "q", "candidates": candidates })]));
        },
        arguments: "grpo --model finished/models/M0 --candidates c.jsonl --out new",
        expected: &["c.jsonl", "the `tokens` of the response \"\"... are not those of its text"],
    },
    Garbage {
        prepare: |f| f.write("c.jsonl", "{\"prompt\": \"q\", \"candidates\": [{\"text\": \"a\"}]}"),
        arguments: "feedback --candidates c.jsonl --out j.jsonl",
        expected: &["nobody judges", "--set checker=arithmetic"],
    },
    Garbage {
        prepare: |f| {
            let choice = json!({ "aspects": [{ "aspect": "speed" }], "parse": "parsed" });
            let candidates = json!([{ "text": "a" }]);
            let line = json!({ "id": "i", "prompt": "q", "candidates": candidates, "aspect_choice": choice });
            f.write("c.jsonl", jsonl(&[line]));
        },
        arguments: "feedback --candidates c.jsonl --out j.jsonl --model finished/models/M0",
        expected: &["c.jsonl: instruction i is to be judged on \"speed\"", "feedback.aspects"],
    },
    Garbage {
        prepare: |f| {
            f.write("c.jsonl", "{\"prompt\": \"q\", \"answer\": 2, \"candidates\": [{\"text\": \"a\"}]}")
        },
        arguments: "feedback --candidates c.jsonl --out j.jsonl --set checker=arithmetic --set feedback.choose={most=1}",
        expected: &["feedback.choose and feedback.retrieval are for a model"],
    },
    Garbage {
        prepare: |f| f.write("c.jsonl", judged("speed")),
        arguments: "feedback --candidates c.jsonl --out j.jsonl --model finished/models/M0",
        expected: &[
            "c.jsonl: instruction ",
            "judged on [\"speed\"] already",
            "--set 'feedback.aspects=[\"speed\"]'",
        ],
    },
    Garbage {
        prepare: |f| f.write("c.jsonl", "{\"prompt\": \"q\", \"candidates\": [{\"text\": \"a\"}]}"),
        arguments: "refine --model finished/models/M0 --candidates c.jsonl --out r.jsonl",
        expected: &["c.jsonl: no candidate has feedback: run `rlrf feedback`"],
    },
    Garbage {
        prepare: |f| f.write("c.jsonl", "{\"prompt\": \"q\", \"candidates\": [{\"text\": \"a\"}]}"),
        arguments: "pairs --candidates c.jsonl --out p.jsonl",
        expected: &["c.jsonl: no candidate has feedback"],
    },
    Garbage {
        prepare: |f| f.write("p.jsonl", "{\"prompt\": \"q\", \"chosen\": \"a\", \"rejected\": \"a\"}"),
        arguments: "dpo --model finished/models/M0 --pairs p.jsonl --out tuned",
        expected: &["p.jsonl:1: `chosen` and `rejected` are the same"],
    },
    Garbage {
        prepare: |f| {
            f.write(
                "p.jsonl",
                jsonl(&[json!({ "prompt": "q ".repeat(800), "chosen": "a", "rejected": "b" })]),
            )
        },
        arguments: "dpo --model finished/models/M0 --pairs p.jsonl --out tuned",
        expected: &["nothing to train on"],
    },
    Garbage {
        prepare: |f| f.write("d.jsonl", "{\"prompt\": \"q\"}"),
        arguments: "sft --model finished/models/M0 --data d.jsonl --out tuned",
        expected: &["d.jsonl:1: needs `prompt` and `completion`"],
    },
    Garbage {
        prepare: |f| f.write("d.jsonl", jsonl(&[json!({ "prompt": "q ".repeat(800), "completion": "a" })])),
        arguments: "sft --model finished/models/M0 --data d.jsonl --out tuned",
        expected: &["example 0", "context", "512"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", GSM8K),
        arguments: "eval gsm8k --problems test.jsonl",
        expected: &["nobody answers", "--model DIR"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", GSM8K),
        arguments: "eval gsm8k --problems test.jsonl --model finished/models/M0 --template cott",
        expected: &["template cott", "chat, cot, cot-turns, question"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", GSM8K),
        arguments: "eval gsm8k --problems test.jsonl --model finished/models/M0 --template cot --shots 9",
        expected: &["8 worked examples", "--shots 8"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", GSM8K),
        arguments: "eval gsm8k --problems test.jsonl --model finished/models/M0 --samples 2 --temperature 0",
        expected: &["--temperature 0", "greedy"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", GSM8K),
        arguments: "eval gsm8k --problems test.jsonl --model finished/models/M0 --limit 0",
        expected: &["--limit 0 leaves no item"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", GSM8K),
        arguments: "eval gsm8k --problems test.jsonl --model finished/models/M0 --model-name x",
        expected: &["leave out its name"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", GSM8K),
        arguments: "eval gsm8k --problems test.jsonl --model finished/models/M0 --out data",
        expected: &["data", "choose another --out"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", "{\"question\": \"q\", \"answer\": \"12\"}"),
        arguments: "eval gsm8k --problems test.jsonl --model finished/models/M0",
        expected: &["test.jsonl:1", "#### n"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", GSM8K),
        arguments: "eval svamp --problems test.jsonl --model finished/models/M0",
        expected: &["test.jsonl", "SVAMP.json"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", GSM8K),
        arguments: "eval mawps --problems test.jsonl --model finished/models/M0",
        expected: &["test.jsonl:1", "no column `Question`"],
    },
    Garbage {
        prepare: |f| f.write("test.jsonl", GSM8K),
        arguments: "eval compare data data",
        expected: &["data/evaluation.json", "finished evaluation"],
    },
    Garbage {
        prepare: nothing,
        arguments: "eval problems --model finished/models/M0 --problems data/other.jsonl",
        expected: &["--set checker=arithmetic"],
    },
    Garbage {
        prepare: nothing,
        arguments: "eval problems --model finished/models/M0 --problems absent.jsonl --set checker=arithmetic",
        expected: &["absent.jsonl: cannot read"],
    },
    Garbage {
        prepare: |f| f.write("p.jsonl", "{\"prompt\": \"q\"}"),
        arguments: "eval problems --model finished/models/M0 --problems p.jsonl --set checker=arithmetic",
        expected: &["p.jsonl: record 1", "needs an `answer`"],
    },
    Garbage {
        prepare: nothing,
        arguments: "eval aspects --model finished/models/M0 --instructions data/other.jsonl",
        expected: &["nothing decides the levels", "--checkers FILE", "--judge DIR"],
    },
    Garbage {
        prepare: nothing,
        arguments: "eval aspects --model finished/models/M0 --instructions data/other.jsonl --judge finished/models/M0 --temperature 101",
        expected: &["--temperature 101: must be 0 to 100"],
    },
    Garbage {
        prepare: |f| {
            f.write("c.toml", "[[aspect]]\nname = \"a\"\ncriterion = \"c\"\nlevels = [\"1\", \"2\", \"3\"]\n")
        },
        arguments: "eval aspects --model finished/models/M0 --instructions data/other.jsonl --checkers c.toml",
        expected: &["c.toml: no aspect has a `checker`"],
    },
    Garbage {
        prepare: |f| f.write("empty.txt", ""),
        arguments: "model new --preset tiny --text empty.txt --vocab-size 320 --out new",
        expected: &["empty.txt"],
    },
    Garbage {
        prepare: |f| f.write("bytes.txt", [0xff, 0xfe]),
        arguments: "model new --preset tiny --text bytes.txt --out new",
        expected: &["bytes.txt", "UTF-8"],
    },
];

#[test]
fn garbage_gives_one_clear_error_and_harms_nothing() {
    let folder = Folder::new();
    folder.write_inputs();
    folder.run(&["run", "rlrf.toml", "--out", "finished", "--set", "iterations=1"]).expect_success();
    // A finished run of the unchanged configuration, in a third of the time.
    folder.write("rlrf.toml", CONFIGURATION.replace("iterations = 2", "iterations = 1"));
    let tree = || {
        let mut files = folder.tree("finished");
        // Holds the id of the last process that came by.
        files.remove(&folder.path("finished/run.lock"));
        files
    };
    let before = tree();
    let mut failures = Vec::new();
    for garbage in [INSTRUCTIONS, CONFIGURATIONS, MODELS, OUTPUTS, STAGES].into_iter().flatten() {
        for left in ["bad", "copy", "other"] {
            let _ = fs::remove_dir_all(folder.path(left));
        }
        (garbage.prepare)(&folder);
        let arguments: Vec<&str> = garbage.arguments.split(' ').chain(["--threads", "1"]).collect();
        let Finished { code, stderr, .. } = folder.run(&arguments);
        let error = stderr.find("error: ").map(|start| &stderr[start..]).unwrap_or_default();
        let mut problems: Vec<String> = Vec::new();
        problems.extend((code != Some(1)).then(|| format!("exit code {code:?}")));
        problems.extend(stderr.contains("panicked").then(|| "panics".to_string()));
        problems.extend((tree() != before).then(|| "the finished run was changed".to_string()));
        let unsaid = garbage.expected.iter().filter(|expected| !error.contains(**expected));
        problems.extend(unsaid.map(|expected| format!("does not say {expected:?}")));
        if !problems.is_empty() {
            failures.push(format!("rlrf {}\n{stderr}{}", garbage.arguments, problems.join("\n")));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

#[test]
fn a_refused_configuration_does_not_bind_the_run_folder() {
    let folder = Folder::new();
    folder.write_inputs();
    folder.write("bad.jinja", "{{ instruction.words.first }}");
    let run = ["run", "rlrf.toml", "--out", "run", "--set", "iterations=1"];
    let refused = |setting: &str| {
        let finished = folder.run(&[&run[..], &["--set", setting]].concat());
        assert_eq!(finished.code, Some(1), "{setting}: {}", finished.stderr);
    };
    for setting in [
        "policy.new.preset=huge",
        "policy.new.vocab_size=10",
        "policy.model=absent",
        "policy.sft.demonstrations=[]",
        "feedback.source=policy",
        "feedback.aspects=[\"speed\"]",
        "templates.feedback=bad.jinja",
        "refine.sampling.stop=[\"\"]",
        "evaluation.max_new_tokens=0",
    ] {
        refused(setting);
        assert!(!folder.path("run").exists(), "{setting}: the folder is bound");
    }
    // Fails half way, when the first prompt does not fit; settings of memory and speed may then be others.
    refused("engine.cache_tokens=16");
    let smaller =
        ["engine.max_rows=2", "dpo.training.tokens_per_microbatch=64", "dpo.training.checkpoint_every=1"];
    let smaller: Vec<&str> = smaller.into_iter().flat_map(|setting| ["--set", setting]).collect();
    let finished = folder.run(&[&run[..], &smaller].concat()).expect_success();
    assert!(!finished.stderr.contains("sft M0"), "trained again: {}", finished.stderr);
    let store = RunStore::open_read_only(folder.path("run")).unwrap();
    assert_eq!(store.computed_twice().unwrap(), 0);
}
