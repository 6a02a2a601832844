//! Objects in a judge's reply: JSON, and the slips of JSON that leave no doubt about what was meant.
//!
//! Taken as meant: strings in single or typographic quotes, raw line breaks in strings, needless backslashes, a comma
//! after the last member, values without quotes. Whatever else is wrong makes the object [`Failure::Broken`]; an
//! object that the text ends within is [`Failure::Truncated`], and what was closed before stays known.

/// How deep objects may nest: a reply of braces alone must not exhaust the stack.
const DEPTH: usize = 16;

/// A value as it was written.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A string, without its quotes and escapes.
    Text(String),
    /// Anything written without quotes: a number, `true`, `N/A`.
    Bare(String),
    /// An object.
    Object(Members),
    /// A list; no verdict is one, so its items are not kept.
    List,
}

/// The members of an object in their order; a name may occur twice.
pub(super) type Members = Vec<(String, Value)>;

/// Why an object could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The text ended within it.
    Truncated,
    /// Its punctuation is wrong.
    Broken,
}

/// An object found in a text.
#[derive(Debug)]
pub(super) struct Found {
    /// The members that are whole.
    pub(super) members: Members,
    /// Whether it is written as JSON asks.
    pub(super) strict: bool,
    /// Byte after its last.
    pub(super) end: usize,
    /// Why it was not read to its end.
    pub(super) failure: Option<Failure>,
}

/// Whether the brace at byte `start` opens an object and not, say, a formula in prose.
pub(super) fn opens(text: &str, start: usize) -> bool {
    let rest = text.get(start + 1..).unwrap_or_default().trim_start();
    rest.is_empty() || rest.starts_with(|c| c == '}' || closing_quotes(c).is_some())
}

/// Reads the object whose brace is at byte `start`.
pub(super) fn read(text: &str, start: usize) -> Found {
    let mut reader = Reader { text, at: start, strict: true, depth: 0 };
    let mut members = Members::new();
    let failure = reader.object(&mut members).err();
    Found { members, strict: reader.strict, end: reader.at, failure }
}

/// The characters that close a string opened by `quote`; none if `quote` opens no string.
fn closing_quotes(quote: char) -> Option<&'static [char]> {
    match quote {
        '"' => Some(&['"']),
        '\'' => Some(&['\'']),
        '\u{201c}' | '\u{201d}' => Some(&['\u{201c}', '\u{201d}']),
        '\u{2018}' | '\u{2019}' => Some(&['\u{2018}', '\u{2019}']),
        _ => None,
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    strict: bool,
    depth: usize,
}

type Read<T> = Result<T, Failure>;

impl Reader<'_> {
    fn peek(&self) -> Read<char> {
        self.text[self.at..].chars().next().ok_or(Failure::Truncated)
    }

    fn next(&mut self) -> Read<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Ok(next)
    }

    fn skip_space(&mut self) -> Read<char> {
        while self.peek()?.is_whitespace() {
            self.next()?;
        }
        self.peek()
    }

    fn expect(&mut self, wanted: char) -> Read<()> {
        if self.skip_space()? != wanted {
            return Err(Failure::Broken);
        }
        self.next().map(|_| ())
    }

    fn enter(&mut self) -> Read<()> {
        self.depth += 1;
        if self.depth > DEPTH { Err(Failure::Broken) } else { Ok(()) }
    }

    fn object(&mut self, members: &mut Members) -> Read<()> {
        self.enter()?;
        self.expect('{')?;
        while self.skip_space()? != '}' {
            let name = self.string()?;
            self.expect(':')?;
            let value = self.value()?;
            // A value without quotes is whole only when something follows it: "4" may be the beginning of "4.5".
            if matches!(value, Value::Bare(_)) {
                self.skip_space()?;
            }
            members.push((name, value));
            self.separator('}')?;
        }
        self.next()?;
        self.depth -= 1;
        Ok(())
    }

    /// The comma between two items, or nothing before the closing bracket.
    fn separator(&mut self, close: char) -> Read<()> {
        match self.skip_space()? {
            ',' => {
                self.next()?;
                if self.skip_space()? == close {
                    self.strict = false;
                }
                Ok(())
            }
            found if found == close => Ok(()),
            _ => Err(Failure::Broken),
        }
    }

    fn value(&mut self) -> Read<Value> {
        match self.skip_space()? {
            '{' => {
                let mut members = Members::new();
                self.object(&mut members)?;
                Ok(Value::Object(members))
            }
            '[' => {
                self.list()?;
                Ok(Value::List)
            }
            quote if closing_quotes(quote).is_some() => Ok(Value::Text(self.string()?)),
            _ => Ok(Value::Bare(self.bare()?)),
        }
    }

    fn list(&mut self) -> Read<()> {
        self.enter()?;
        self.expect('[')?;
        while self.skip_space()? != ']' {
            self.value()?;
            self.separator(']')?;
        }
        self.next()?;
        self.depth -= 1;
        Ok(())
    }

    fn string(&mut self) -> Read<String> {
        let quote = self.skip_space()?;
        let close = closing_quotes(quote).ok_or(Failure::Broken)?;
        self.strict &= quote == '"';
        self.next()?;
        let start = self.at;
        // A string without its end may have swallowed another verdict: then nothing is certain.
        self.content(close).map_err(|failure| match self.text[start..].contains('{') {
            true => Failure::Broken,
            false => failure,
        })
    }

    /// A string up to and with its closing quote.
    fn content(&mut self, close: &[char]) -> Read<String> {
        let mut content = String::new();
        loop {
            match self.next()? {
                '\\' => content.extend(self.escape()?),
                next if close.contains(&next) => return Ok(content),
                next => {
                    self.strict &= !next.is_control();
                    content.push(next);
                }
            }
        }
    }

    /// The character after a backslash. Half of a surrogate pair has no text of its own; a backslash before any other
    /// character was not needed and stays.
    fn escape(&mut self) -> Read<Vec<char>> {
        let next = self.next()?;
        Ok(match next {
            '"' | '\\' | '/' => vec![next],
            'n' => vec!['\n'],
            't' => vec!['\t'],
            'r' => vec!['\r'],
            'b' | 'f' => vec![' '],
            'u' => {
                let digits = self.text.get(self.at..self.at + 4);
                let code = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
                match code {
                    Some(code) => {
                        self.at += 4;
                        vec![char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)]
                    }
                    None => {
                        self.strict = false;
                        vec!['\\', 'u']
                    }
                }
            }
            quote if closing_quotes(quote).is_some() => {
                self.strict = false;
                vec![quote]
            }
            other => {
                self.strict = false;
                vec!['\\', other]
            }
        })
    }

    fn bare(&mut self) -> Read<String> {
        let start = self.at;
        loop {
            let next = self.peek()?;
            if next.is_whitespace() || matches!(next, ',' | '}' | ']') {
                break;
            }
            if matches!(next, '{' | '[' | ':') || closing_quotes(next).is_some() {
                return Err(Failure::Broken);
            }
            self.next()?;
        }
        let word = &self.text[start..self.at];
        if word.is_empty() {
            return Err(Failure::Broken);
        }
        self.strict &= matches!(word, "true" | "false" | "null") || word.parse::<f64>().is_ok();
        Ok(word.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(text: &str) -> (Vec<(String, Value)>, bool, Option<Failure>) {
        let found = read(text, text.find('{').unwrap());
        (found.members, found.strict, found.failure)
    }

    fn text(name: &str, value: &str) -> (String, Value) {
        (name.into(), Value::Text(value.into()))
    }

    #[test]
    fn slips_that_leave_no_doubt() {
        for slip in [
            "{'a': 'b'}",
            "{\u{201c}a\u{201d}: \u{201c}b\u{201d}}",
            "{\"a\": \"b\",}",
            "{\"a\": \u{201d}b\u{201d}}",
        ] {
            assert_eq!(members(slip), (vec![text("a", "b")], false, None), "{slip}");
        }
        assert_eq!(members("{\"a\": \"b\\n\\u0041\"}"), (vec![text("a", "b\nA")], true, None));
        assert_eq!(members("{\"a\": \"b\n\\_\"}"), (vec![text("a", "b\n\\_")], false, None));
        assert_eq!(members("{\"a\": N/A }"), (vec![("a".into(), Value::Bare("N/A".into()))], false, None));
    }

    #[test]
    fn an_end_too_early_leaves_what_was_closed() {
        let whole = "{\"a\": \"b\", \"c\": {\"d\": 4}}";
        for end in 1..whole.len() {
            let (known, _, failure) = members(&whole[..end]);
            assert_eq!(failure, Some(Failure::Truncated), "{}", &whole[..end]);
            let expected = match end {
                ..9 => 0,
                9..24 => 1,
                _ => 2,
            };
            assert_eq!(known.len(), expected, "{}", &whole[..end]);
        }
        assert!(members("{\"a\": 4").0.is_empty(), "it may have become 4.5");
        assert_eq!(members("{\"a\": \"b {\"").2, Some(Failure::Truncated));
        assert_eq!(members("{\"a\": \"b {").2, Some(Failure::Broken));
    }

    #[test]
    fn wrong_punctuation_is_broken() {
        for broken in [
            "{\"a\" \"b\"}",
            "{\"a\": \"b\" \"c\": 1}",
            "{\"a\": \"b\",, \"c\": 1}",
            "{\"a\": \"it \"works\" here\"}",
            "{a: 1}",
            "{\"a\": }",
            "{\"a\": 1: 2}",
            "{'a': 'it's'}",
        ] {
            assert_eq!(members(broken).2, Some(Failure::Broken), "{broken}");
        }
        assert_eq!(members(&"{\"a\":".repeat(100_000)).2, Some(Failure::Broken));
    }
}
