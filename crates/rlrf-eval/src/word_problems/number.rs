//! Reading the number in an answer: exactly, or not at all.
//!
//! A number may have thousands separators, a currency sign, a unit or a percent sign (both ignored: `50%` is 50), a
//! decimal point, be a fraction or a mixed one, and have any of Unicode's minus signs. What looks like a number but
//! cannot be read as one for sure (a time, a date, a list without spaces, a power, more digits than are exact) has no
//! value: such an answer is unparseable, rather than another number than the one that was meant.

use rlrf_arithmetic::Rational;

/// Marks the final answer in GSM8K's solutions.
const MARKER: &str = "####";

/// What may stand between the marker and the number.
const BEFORE_ANSWER: &[char] = &[
    ' ', '\t', '*', '_', '`', '\\', '(', '[', '{', '=', ':', '~', '≈', '+', '-', '$', '€', '£', '¥', '₹', '#',
];

const CURRENCIES: &[char] = &['$', '€', '£', '¥', '₹'];

/// Words that stand before an amount without a space.
const CURRENCY_WORDS: &[&str] = &["usd", "us", "eur", "gbp", "rs", "inr", "cad", "aud"];

/// The strict reading: the number right after the first `####` that a number follows, as GSM8K's own solutions end.
#[must_use]
pub fn strict(response: &str) -> Option<Rational> {
    let text = normalised(response);
    let mut rest = text.as_str();
    while let Some(place) = rest.find(MARKER) {
        rest = &rest[place + MARKER.len()..];
        let line: Vec<char> = rest.lines().next().unwrap_or_default().replace("boxed", "").chars().collect();
        let Some(first) = Numbers::of(&line).next() else { continue };
        let before = &line[..first.start];
        if before.iter().all(|c| BEFORE_ANSWER.contains(c)) {
            return if before.contains(&'-') { first.value.and_then(negated) } else { first.value };
        }
    }
    None
}

/// The flexible reading: the last number in the last `\boxed{}` that has one, else the last number of all.
#[must_use]
pub fn flexible(response: &str) -> Option<Rational> {
    let text = normalised(response);
    let last = |text: &str| Numbers::of(&text.chars().collect::<Vec<_>>()).last();
    let boxed =
        text.rmatch_indices("\\boxed{").find_map(|(place, mark)| last(braced(&text[place + mark.len()..])));
    boxed.or_else(|| last(&text))?.value
}

/// A gold answer: one number and nothing else.
#[must_use]
pub fn exact(answer: &str) -> Option<Rational> {
    let characters: Vec<char> = normalised(answer.trim()).chars().collect();
    let mut numbers = Numbers::of(&characters);
    let only = numbers.next()?;
    (only.start == 0 && only.end == characters.len()).then_some(only.value)?
}

/// Up to the brace that closes.
fn braced(text: &str) -> &str {
    let mut depth = 1;
    for (place, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..place];
        }
    }
    text
}

fn negated(value: Rational) -> Option<Rational> {
    Rational::parse("0")?.subtract(value)
}

/// One way of writing for what has several: minus signs, wide digits, fractions of LaTeX and Unicode, LaTeX's spaces.
fn normalised(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        let vulgar = match c {
            '½' => "1/2",
            '⅓' => "1/3",
            '⅔' => "2/3",
            '¼' => "1/4",
            '¾' => "3/4",
            '⅕' => "1/5",
            '⅖' => "2/5",
            '⅗' => "3/5",
            '⅘' => "4/5",
            '⅙' => "1/6",
            '⅚' => "5/6",
            '⅛' => "1/8",
            '⅜' => "3/8",
            '⅝' => "5/8",
            '⅞' => "7/8",
            _ => "",
        };
        match c {
            _ if !vulgar.is_empty() => push_fraction(&mut plain, vulgar),
            '\u{2212}' | '\u{2010}'..='\u{2013}' | '\u{fe63}' | '\u{ff0d}' => plain.push('-'),
            '\u{ff10}'..='\u{ff19}' => plain.extend(char::from_digit(c as u32 - 0xff10, 10)),
            '\u{ff0c}' => plain.push(','),
            '\u{2044}' => plain.push('/'),
            c => plain.push(c),
        }
    }
    if !plain.contains(['\\', '{']) {
        return plain;
    }
    let plain = plain.replace("{,}", ",").replace("\\!", "").replace("\\,", "\u{2009}");
    let mut parts = plain.split("\\frac{").collect::<Vec<_>>();
    let spelt = plain.replace("\\dfrac{", "\\frac{").replace("\\tfrac{", "\\frac{");
    if spelt != plain {
        parts = spelt.split("\\frac{").collect();
    }
    let mut text = parts.first().copied().unwrap_or_default().to_string();
    for part in parts.iter().skip(1) {
        let arguments = part.split_once("}{").and_then(|(above, rest)| {
            let (below, rest) = rest.split_once('}')?;
            let whole = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            (whole(above) && whole(below)).then(|| (format!("{above}/{below}"), rest))
        });
        match arguments {
            Some((fraction, rest)) => {
                push_fraction(&mut text, &fraction);
                text.push_str(rest);
            }
            None => {
                text.push_str("\\frac{");
                text.push_str(part);
            }
        }
    }
    text
}

/// `1½` is mixed: its parts must not run together.
fn push_fraction(text: &mut String, fraction: &str) {
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        text.push(' ');
    }
    text.push_str(fraction);
}

/// A number in a text; without a value where it cannot be read for sure.
struct Number {
    /// Of its sign or currency, where it has one.
    start: usize,
    end: usize,
    value: Option<Rational>,
}

/// The numbers of a text, from left to right.
struct Numbers<'a> {
    text: &'a [char],
    place: usize,
}

impl<'a> Numbers<'a> {
    fn of(text: &'a [char]) -> Self {
        Self { text, place: 0 }
    }

    fn at(&self, place: usize) -> Option<char> {
        self.text.get(place).copied()
    }

    fn before(&self, place: usize) -> Option<char> {
        place.checked_sub(1).and_then(|place| self.at(place))
    }

    fn is_digit(&self, place: usize) -> bool {
        self.at(place).is_some_and(|c| c.is_ascii_digit())
    }

    /// The place after the digits that begin at `place`.
    fn digits(&self, place: usize) -> usize {
        (place..).find(|&place| !self.is_digit(place)).unwrap_or(place)
    }

    /// Whether a number begins here: a digit, or a point before one.
    fn begins(&self, place: usize) -> bool {
        match self.at(place) {
            Some('.') => {
                self.is_digit(place + 1)
                    && !self.before(place).is_some_and(|c| c.is_alphanumeric() || c == '.' || c == ')')
            }
            Some(c) => c.is_ascii_digit(),
            None => false,
        }
    }

    /// Whether the digit at `place` belongs to a word, as in `CO2`, `x_1` or `m^2`.
    fn is_in_word(&self, place: usize) -> bool {
        let name = match self.before(place) {
            Some(c) if c.is_ascii_alphabetic() => place,
            Some('_') => return self.before(place - 1).is_some_and(char::is_alphanumeric),
            Some('^') => return !self.is_power(place - 1),
            Some('{') if self.before(place - 1) == Some('^') => return !self.is_power(place - 2),
            _ => return false,
        };
        let start =
            (0..name).rev().find(|&place| !self.text[place].is_ascii_alphabetic()).map_or(0, |p| p + 1);
        let word: String = self.text[start..name].iter().collect();
        // The letters of a LaTeX command end where its argument begins.
        !CURRENCY_WORDS.contains(&word.to_lowercase().as_str())
    }

    /// Whether the `^` at `place` follows a number.
    fn is_power(&self, place: usize) -> bool {
        self.before(place).is_some_and(|c| c.is_ascii_digit() || c == ')')
    }

    /// A decimal number from `place` on: its digits without separators, its end; none if its form is none that is known.
    fn decimal(&self, place: usize) -> (Option<String>, usize) {
        let mut end = self.digits(place);
        let mut digits: String = self.text[place..end].iter().collect();
        let mut known = true;
        let first_group = end - place;
        while let Some(separator) = self.at(end).filter(|c| is_separator(*c)) {
            let group_end = self.digits(end + 1);
            match group_end - (end + 1) {
                0 => break,
                3 if first_group <= 3 && first_group > 0 => {}
                // The Indian way: 1,00,000.
                2 if separator == ',' && first_group <= 2 && self.at(group_end) == Some(',') => {}
                _ if separator == ',' || separator == '_' => known = false,
                _ => break,
            }
            digits.extend(&self.text[end + 1..group_end]);
            end = group_end;
        }
        if self.at(end) == Some('.') && self.is_digit(end + 1) {
            let fraction_end = self.digits(end + 1);
            digits.extend(&self.text[end..fraction_end]);
            end = fraction_end;
        }
        if matches!(self.at(end), Some('e' | 'E')) {
            let sign = usize::from(matches!(self.at(end + 1), Some('+' | '-')));
            let exponent_end = self.digits(end + 1 + sign);
            if exponent_end > end + 1 + sign && !self.at(exponent_end).is_some_and(char::is_alphabetic) {
                let exponent: String = self.text[end + 1..exponent_end].iter().collect();
                let shifted = exponent.parse().ok().and_then(|exponent| shifted(&digits, exponent));
                known &= shifted.is_some();
                digits = shifted.unwrap_or_default();
                end = exponent_end;
            }
        }
        // A version, a date, a time, a list: digits go on where those of a number do not.
        while matches!(self.at(end), Some('.' | ',' | ':' | '_')) && self.is_digit(end + 1) {
            known = false;
            end = self.digits(end + 1);
        }
        (known.then_some(digits), end)
    }

    /// The number that begins at `place`, with the fraction that it is a part of.
    fn number(&self, place: usize) -> (Option<Rational>, usize) {
        let (digits, mut end) = self.decimal(place);
        let whole = digits.as_deref().is_some_and(|digits| !digits.contains('.'));
        let mut value = digits.as_deref().and_then(Rational::parse);
        if let Some(start) = self.denominator(end) {
            let (below, below_end) = self.decimal(start);
            let below = below.as_deref().and_then(Rational::parse);
            value = value.zip(below).and_then(|(above, below)| above.divide(below));
            end = below_end;
            while self.at(end) == Some('/') && self.is_digit(end + 1) {
                (value, end) = (None, self.digits(end + 1));
            }
        } else if whole && self.at(end) == Some(' ') && self.is_digit(end + 1) {
            let above_end = self.digits(end + 1);
            let fraction = (self.at(above_end) == Some('/') && self.is_digit(above_end + 1))
                .then(|| (self.digits(above_end + 1), above_end));
            if let Some((below_end, above_end)) = fraction {
                let text = |from: usize, to: usize| self.text[from..to].iter().collect::<String>();
                let above = Rational::parse(&text(end + 1, above_end));
                let below = Rational::parse(&text(above_end + 1, below_end));
                let proper = above
                    .zip(below)
                    .filter(|(above, below)| below.subtract(*above).is_some_and(Rational::is_positive))
                    .filter(|_| {
                        !matches!(self.at(below_end), Some('/' | '.')) || !self.is_digit(below_end + 1)
                    });
                if let Some((above, below)) = proper {
                    let fraction = above.divide(below);
                    value = value.zip(fraction).and_then(|(whole, fraction)| whole.add(fraction));
                    end = below_end;
                }
            }
        }
        // `1 080` may be one number or two.
        while end - place <= 3 && self.at(end) == Some(' ') && self.digits(end + 1) == end + 4 {
            (value, end) = (None, end + 4);
        }
        if self.at(end) == Some('^') {
            value = None;
        }
        (value, end)
    }

    /// Where the denominator begins, if `end` is followed by one; spaces are allowed on both sides of the stroke.
    fn denominator(&self, end: usize) -> Option<usize> {
        let spaced =
            self.at(end) == Some(' ') && self.at(end + 1) == Some('/') && self.at(end + 2) == Some(' ');
        let start = if spaced { end + 3 } else { end + 1 };
        ((spaced || self.at(end) == Some('/')) && self.is_digit(start)).then_some(start)
    }

    /// The place of the sign or currency before a number, and whether the number is negative.
    fn sign(&self, place: usize) -> (usize, bool) {
        let is_currency = |place: usize| self.before(place).is_some_and(|c| CURRENCIES.contains(&c));
        let mut start = place;
        while is_currency(start) || self.before(start) == Some('\\') {
            start -= 1;
        }
        let negative = self.before(start) == Some('-')
            && !self.before(start - 1).is_some_and(|c| c.is_alphanumeric() || matches!(c, ')' | '%' | '-'));
        if negative {
            start -= 1;
        }
        while is_currency(start) {
            start -= 1;
        }
        (start, negative)
    }
}

impl Iterator for Numbers<'_> {
    type Item = Number;

    fn next(&mut self) -> Option<Number> {
        while self.place < self.text.len() {
            let place = self.place;
            if !self.begins(place) {
                self.place += 1;
                continue;
            }
            if self.is_in_word(place) {
                self.place = self.digits(place).max(place + 1);
                continue;
            }
            let (value, end) = self.number(place);
            self.place = end;
            let (start, negative) = self.sign(place);
            let is_exponent = matches!(self.before(place), Some('^'))
                || (self.before(place) == Some('{') && self.before(place - 1) == Some('^'));
            let value = if is_exponent { None } else { value };
            let value = if negative { value.and_then(negated) } else { value };
            return Some(Number { start, end, value });
        }
        None
    }
}

/// Between groups of digits: a comma, a space that does not break, an underscore.
fn is_separator(c: char) -> bool {
    matches!(c, ',' | '\u{a0}' | '\u{2009}' | '\u{202f}' | '_')
}

/// The digits with their point moved; none where that would be too long to be exact.
fn shifted(digits: &str, exponent: i32) -> Option<String> {
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let size = usize::try_from(exponent.unsigned_abs()).ok().filter(|&size| size <= 40)?;
    if exponent >= 0 {
        let (moved, left) = fraction.split_at(size.min(fraction.len()));
        let zeros = "0".repeat(size - moved.len());
        Some(format!("{whole}{moved}{zeros}.{left}"))
    } else {
        let padded = format!("{}{whole}", "0".repeat(size));
        let (left, moved) = padded.split_at(padded.len() - size);
        Some(format!("{left}.{moved}{fraction}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arbitrary_text_is_read_or_not_but_never_a_panic() {
        let pieces = [
            "9", ",", ".", "/", "-", " ", "e", "^", "{", "}", "\\frac{", "\\boxed{", "####", "$", "½", "é",
            "_", ":", "%",
        ];
        let mut state = 1u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            let (strict, flexible) = (strict(&text), flexible(&text));
            if let Some(value) = strict.or(flexible) {
                assert_eq!(exact(&value.to_string().replace(' ', "")), Some(value), "{text}");
            }
        }
    }

    #[test]
    fn more_digits_than_are_exact_are_no_number() {
        for digits in [38, 39, 40, 100, 10_000] {
            let text = format!("#### {}", "9".repeat(digits));
            assert_eq!(strict(&text).is_some(), digits <= 38, "{digits}");
            assert_eq!(strict(&text), flexible(&text));
        }
        assert_eq!(flexible("1e999999999999"), None);
        assert_eq!(flexible("1/0"), None);
    }
}
