//! A fresh folder with tiny inputs, and the binary run in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

/// What a command said, and how it ended.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Finished {
    pub(crate) fn expect_success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// Removed when dropped.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The objects of a JSONL file.
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        let text = String::from_utf8(self.read(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rlrf"));
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        let output = self.command(arguments).output().unwrap();
        Finished {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Every file below `name` with its content.
    pub(crate) fn tree(&self, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        gather(&self.path(name), &mut files);
        files
    }

    pub(crate) fn copy(&self, from: &str, to: &str) {
        let root = self.path(from);
        for (path, content) in self.tree(from) {
            self.write(&format!("{to}/{}", path.strip_prefix(&root).unwrap().display()), content);
        }
    }

    /// The inputs that [`CONFIGURATION`] names.
    pub(crate) fn write_inputs(&self) {
        for (name, owner, count) in [
            ("instructions", "Tom", 30),
            ("demonstrations", "Ann", 20),
            ("heldout", "Sue", 20),
            ("other", "Max", 15),
        ] {
            self.write(&format!("data/{name}.jsonl"), jsonl(&problems(owner, count)));
        }
        let gsm8k = problems("Zoe", 9).into_iter().map(|problem| {
            let (question, answer) = (&problem["prompt"], &problem["answer"]);
            json!({ "question": question, "answer": format!("{}\n#### {answer}", problem["reference"]) })
        });
        self.write("data/gsm8k.jsonl", jsonl(&gsm8k.collect::<Vec<_>>()));
        self.write("data/feedback.jinja", "Reference: {{ reference }}\nAnswer: {{ response | fence }}\n");
        self.write("data/refine.jinja", "{% for item in feedback %}{{ item.critique }}\n{% endfor %}");
        self.write("rlrf.toml", CONFIGURATION);
    }
}

fn gather(path: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    if path.is_file() {
        files.insert(path.to_path_buf(), fs::read(path).unwrap());
    } else if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            gather(&entry.unwrap().path(), files);
        }
    }
}

pub(crate) fn jsonl(records: &[Value]) -> String {
    records.iter().map(|record| format!("{record}\n")).collect()
}

/// Word problems that no other owner has.
pub(crate) fn problems(owner: &str, count: u32) -> Vec<Value> {
    (0..count)
        .map(|index| {
            let (left, right) = (17 + 3 * index, 2 + index);
            let (text, sign, value) = match index % 3 {
                0 => ("had number0 pears and ate number1 . How many are left ?", '-', left - right),
                1 => ("had number0 pears and got number1 . How many are there ?", '+', left + right),
                _ => ("has number0 bags of number1 pears . How many are there ?", '*', left * right),
            };
            let template = format!("{owner} {text}");
            let prompt = template.replace("number0", &left.to_string()).replace("number1", &right.to_string());
            json!({
                "id": format!("{owner}-{index}"), "prompt": prompt, "reference": format!("{left} {sign} {right}"),
                "answer": value, "template": template, "numbers": [left.to_string(), right.to_string()],
                "equation": format!("{sign} number0 number1"),
            })
        })
        .collect()
}

/// A run of a second or two with everything in it: both models warmed up, two iterations, two evaluation sets.
pub(crate) const CONFIGURATION: &str = r#"
name = "tiny"
seed = 7
iterations = 2
checker = "arithmetic"

[instructions]
file = "data/instructions.jsonl"

[demonstrations]
problems = "data/demonstrations.jsonl"
per_problem = { answers = 4, refinements = 3, feedback = 4 }

[policy]
new = { preset = "tiny", vocab_size = 320 }

[policy.sft]
demonstrations = ["answers", "refinements"]

[policy.sft.training]
epochs = 3
batch_size = 4
learning_rate = 3e-3
checkpoint_every = 7

[feedback]
source = "model"
aspects = ["logical correctness"]
new = { preset = "tiny", vocab_size = 320 }
critique = { max_new_tokens = 24 }

[feedback.sft]
demonstrations = ["feedback"]

[feedback.sft.training]
epochs = 3
batch_size = 4
learning_rate = 3e-3
checkpoint_every = 5

[templates]
feedback = "data/feedback.jinja"
refine = "data/refine.jinja"

[sample]
n = 3
sampling = { max_new_tokens = 16 }

[refine]
m = 2
sampling = { max_new_tokens = 16 }

[pairs]
margin = 1e-9

[dpo.training]
epochs = 6
batch_size = 2
checkpoint_every = 3

[evaluation]
max_new_tokens = 16
sets = [
  { name = "heldout", file = "data/heldout.jsonl" },
  { name = "other", file = "data/other.jsonl" },
  { name = "grade school", benchmark = "gsm8k", file = "data/gsm8k.jsonl", template = "question", limit = 6 },
]
"#;
