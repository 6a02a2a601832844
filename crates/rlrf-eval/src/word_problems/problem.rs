//! The problems, as the benchmarks' own files have them.

use rlrf_arithmetic::Rational;
use rlrf_method::instruction::records;
use rlrf_method::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::csv;
use super::number::exact;

/// A word problem with the number that answers it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Problem {
    /// The file's own, or the number of the record, from 1.
    pub id: String,
    /// The question.
    pub question: String,
    /// The answer as the file has it.
    pub answer: String,
    /// Its value.
    #[serde(skip)]
    pub gold: Gold,
}

/// The value of an answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Gold {
    value: Rational,
    /// Whether the value has no end as a decimal: the file then has it rounded, and an answer may be rounded, too.
    endless: bool,
}

impl Gold {
    /// Whether `found` is this value: exactly, or to within 0.0001 of one that no decimal equals.
    #[must_use]
    pub fn is(self, found: Rational) -> bool {
        if found == self.value || !self.endless {
            return found == self.value;
        }
        let within = || {
            let distance = found.subtract(self.value)?.magnitude()?;
            Some(!distance.subtract(Rational::parse("0.0001")?)?.is_positive())
        };
        within().unwrap_or(false)
    }

    /// Reads an answer as a file has it. A floating-point number that is a fraction with a small denominator, cut off
    /// after all its digits, is that fraction.
    fn read(answer: &str) -> Option<Self> {
        if let Some(value) = fraction_of(answer) {
            return Some(Self { value, endless: true });
        }
        Some(Self { value: exact(answer)?, endless: false })
    }
}

/// The fraction with a denominator up to 1,000 that this floating-point number is the rounding of, where it has so many
/// digits that it must be one.
fn fraction_of(text: &str) -> Option<Rational> {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let float: f64 = text.parse().ok().filter(|_| digits >= 15 && text.contains('.'))?;
    (1..=1000u32).find_map(|denominator| {
        let numerator = (float * f64::from(denominator)).round();
        let near = (numerator / f64::from(denominator) - float).abs() <= 4.0 * f64::EPSILON * float.abs();
        let whole = || {
            Rational::parse(&format!("{numerator:.0}"))?.divide(Rational::parse(&denominator.to_string())?)
        };
        if near { whole() } else { None }
    })
}

/// Which benchmark a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `test.jsonl` of grade-school-math: `question`, and `answer` with its number after `####`.
    Gsm8k,
    /// `SVAMP.json`: `Body`, `Question`, `Answer`.
    Svamp,
    /// MAWPS as the SVAMP repository has it, a CSV file with `Question` (numbers taken out), `Numbers` and `Answer`.
    Mawps,
}

impl Source {
    /// Name of the benchmark.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gsm8k => "gsm8k",
            Self::Svamp => "svamp",
            Self::Mawps => "mawps",
        }
    }

    /// Reads the problems of a file.
    ///
    /// # Errors
    /// Names file and line of a record that is not as it should be, or whose answer is no number.
    pub fn read(self, file: &str, bytes: &[u8]) -> Result<Vec<Problem>> {
        let problems = match self {
            Self::Gsm8k => gsm8k(file, bytes)?,
            Self::Svamp => svamp(file, bytes)?,
            Self::Mawps => mawps(file, bytes)?,
        };
        let mut ids = std::collections::HashSet::new();
        match problems.iter().find(|problem| !ids.insert(&problem.id)) {
            Some(twice) => Err(input(file, format!("id {:?} is used twice; ids must be unique", twice.id))),
            None if problems.is_empty() => Err(input(file, "holds no problem".into())),
            None => Ok(problems),
        }
    }
}

fn input(file: &str, message: String) -> Error {
    Error::Input { file: file.into(), message }
}

fn problem(id: String, question: &str, answer: &str) -> std::result::Result<Problem, String> {
    if question.trim().is_empty() {
        return Err("the question is empty".into());
    }
    let answer = answer.trim();
    let gold = Gold::read(answer).ok_or_else(|| format!("the answer {answer:?} is not a number"))?;
    Ok(Problem { id, question: question.trim().into(), answer: answer.into(), gold })
}

fn gsm8k(file: &str, bytes: &[u8]) -> Result<Vec<Problem>> {
    #[derive(Deserialize)]
    struct Record {
        id: Option<Value>,
        question: String,
        answer: String,
    }
    records::<Record>(file, bytes)?
        .zip(1..)
        .map(|(record, number)| {
            let (line, record) = record?;
            let bad = |message| Error::Record { file: file.into(), line, message };
            let id = match record.id {
                None | Some(Value::Null) => number.to_string(),
                Some(Value::String(id)) => id,
                Some(id) => id.to_string(),
            };
            let answer = record.answer.rsplit_once("####").map(|(_, answer)| answer);
            let answer =
                answer.ok_or_else(|| bad("`answer` must end in `#### n`, n being the number".into()))?;
            problem(id, &record.question, answer).map_err(bad)
        })
        .collect()
}

fn svamp(file: &str, bytes: &[u8]) -> Result<Vec<Problem>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Record {
        #[serde(rename = "ID")]
        id: String,
        body: String,
        question: String,
        answer: Value,
    }
    let expected = "expected a list of objects with `ID`, `Body`, `Question`, `Answer`, as in SVAMP.json";
    let all: Vec<Record> =
        serde_json::from_slice(bytes).map_err(|e| input(file, format!("{e}; {expected}")))?;
    all.into_iter()
        .map(|Record { id, body, question, answer }| {
            let body = body.trim();
            let stop = if body.ends_with(['.', '?', '!', ',', ';', ':']) { "" } else { "." };
            let answer = answer.as_str().map_or_else(|| answer.to_string(), String::from);
            let text = format!("{body}{stop} {}", question.trim());
            problem(id.clone(), &text, &answer)
                .map_err(|message| input(file, format!("problem {id}: {message}")))
        })
        .collect()
}

fn mawps(file: &str, bytes: &[u8]) -> Result<Vec<Problem>> {
    let text = std::str::from_utf8(bytes).map_err(|e| input(file, format!("not UTF-8: {e}")))?;
    let bad = |line, message| Error::Record { file: file.into(), line, message };
    let mut rows = csv::rows(text).into_iter();
    let (_, header) = rows.next().ok_or_else(|| input(file, "is empty".into()))?;
    let column = |name: &str| {
        let place = header.iter().position(|cell| cell == name);
        place.ok_or_else(|| bad(1, format!("no column `{name}`; expected Question, Numbers, Answer")))
    };
    let [question, numbers, answer] = [column("Question")?, column("Numbers")?, column("Answer")?];
    rows.zip(1..)
        .map(|((line, row), number)| {
            if row.len() != header.len() {
                return Err(bad(line, format!("{} cells; the first line has {}", row.len(), header.len())));
            }
            let mut text = String::new();
            let numbers: Vec<&str> = row[numbers].split_whitespace().collect();
            let mut rest = row[question].as_str();
            while let Some((before, after)) = rest.split_once("number") {
                let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                text.push_str(before);
                match after[..digits].parse::<usize>() {
                    Ok(index) => {
                        let number = numbers.get(index);
                        let number =
                            number.ok_or_else(|| bad(line, format!("`Numbers` has no number{index}")))?;
                        text.push_str(&written(number));
                    }
                    Err(_) => text.push_str("number"),
                }
                rest = &after[digits..];
            }
            text.push_str(rest);
            problem(number.to_string(), &text, &row[answer]).map_err(|message| bad(line, message))
        })
        .collect()
}

/// A number of a problem as people write it: `56.0` is 56, `0.16666666666666666` is 1/6.
fn written(number: &str) -> String {
    match Gold::read(number) {
        Some(gold) => gold.value.to_string().replace(" / ", "/"),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_without_end_is_its_fraction_and_may_be_rounded() {
        let gold = Gold::read("0.8333333333333334").unwrap();
        let is = |text: &str| gold.is(super::super::number::flexible(text).unwrap());
        assert!(is("5/6") && is("0.8333") && is("0.83333333"));
        assert!(!is("0.83") && !is("0.8") && !is("0.8335"));
        let whole = Gold::read("145.0").unwrap();
        assert!(whole.is(Rational::parse("145").unwrap()) && !whole.is(Rational::parse("145.0001").unwrap()));
        assert_eq!(written("0.16666666666666666"), "1/6");
        assert_eq!(written("56.0"), "56");
        assert_eq!(written("0.25"), "0.25");
    }

    #[test]
    fn each_file_is_read_as_its_benchmark_has_it() {
        let gsm8k = br#"{"question": "How many?", "answer": "2 + 2 = <<2+2=4>>4\n#### 1,080"}"#;
        let read = Source::Gsm8k.read("t.jsonl", gsm8k).unwrap();
        assert_eq!((read[0].id.as_str(), read[0].answer.as_str()), ("1", "1,080"));
        let svamp = br#"[{"ID": "chal-1", "Body": "A has 3 pens", "Question": "How many?", "Answer": 3.0}]"#;
        let read = Source::Svamp.read("S.json", svamp).unwrap();
        assert_eq!(read[0].question, "A has 3 pens. How many?");
        let mawps = "Question,Numbers,Answer\n\"Tom , with number1 of number0 , has ?\",56.0 9.5,504.0\n";
        let read = Source::Mawps.read("m.csv", mawps.as_bytes()).unwrap();
        assert_eq!(read[0].question, "Tom , with 9.5 of 56 , has ?");
    }

    #[test]
    fn garbage_names_its_place() {
        for (source, bytes, expected) in [
            (Source::Gsm8k, "{\"question\": \"q\", \"answer\": \"4\"}", "f:1: `answer` must end in `#### n`"),
            (Source::Gsm8k, "{\"question\": \"q\", \"answer\": \"#### four\"}", "f:1: the answer \"four\""),
            (Source::Gsm8k, "", "f: holds no problem"),
            (Source::Svamp, "{}", "f: "),
            (
                Source::Svamp,
                "[{\"ID\": \"a\", \"Body\": \"b\", \"Question\": \"q\", \"Answer\": \"x\"}]",
                "f: problem a: the answer \"x\"",
            ),
            (Source::Mawps, "Question,Answer\nq,1\n", "f:1: no column `Numbers`"),
            (Source::Mawps, "Question,Numbers,Answer\nnumber1 ?,1,1\n", "f:2: `Numbers` has no number1"),
            (Source::Mawps, "Question,Numbers,Answer\nnumber0 ?,1\n", "f:2: 2 cells"),
        ] {
            let message = source.read("f", bytes.as_bytes()).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message} does not start with {expected}");
        }
    }
}
