//! Exact fractions.

use std::fmt;

/// A fraction in lowest terms with a positive denominator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rational {
    numerator: i128,
    denominator: i128,
}

fn greatest_common_divisor(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

impl Rational {
    fn new(numerator: i128, denominator: i128) -> Option<Self> {
        if denominator == 0 {
            return None;
        }
        let divisor =
            i128::try_from(greatest_common_divisor(numerator.unsigned_abs(), denominator.unsigned_abs()))
                .ok()?;
        let sign = if denominator < 0 { -1 } else { 1 };
        Some(Self {
            numerator: sign * (numerator / divisor),
            denominator: (denominator / divisor).checked_abs()?,
        })
    }

    /// Reads a decimal number such as `12`, `-0.25` or `1,200.5`; none if it is not one or too long to be exact.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut characters = text.bytes().filter(|&character| character != b',').peekable();
        let sign = if characters.next_if_eq(&b'-').is_some() { -1 } else { 1 };
        let (mut numerator, mut denominator) = (0i128, 1i128);
        let (mut has_digits, mut has_point) = (false, false);
        for character in characters {
            match character {
                b'0'..=b'9' => {
                    has_digits = true;
                    numerator = numerator.checked_mul(10)?.checked_add(i128::from(character - b'0'))?;
                    if has_point {
                        denominator = denominator.checked_mul(10)?;
                    }
                }
                b'.' if !has_point => has_point = true,
                _ => return None,
            }
        }
        if has_digits { Self::new(sign * numerator, denominator) } else { None }
    }

    /// Sum; none on overflow.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    /// Difference; none on overflow.
    #[must_use]
    pub fn minus(self, other: Self) -> Option<Self> {
        self.plus(Self { numerator: other.numerator.checked_neg()?, ..other })
    }

    /// Product; none on overflow.
    #[must_use]
    pub fn times(self, other: Self) -> Option<Self> {
        Self::new(
            self.numerator.checked_mul(other.numerator)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    /// Quotient; none on overflow or division by zero.
    #[must_use]
    pub fn over(self, other: Self) -> Option<Self> {
        Self::new(
            self.numerator.checked_mul(other.denominator)?,
            self.denominator.checked_mul(other.numerator)?,
        )
    }

    /// The same without its sign; none on overflow.
    #[must_use]
    pub fn magnitude(self) -> Option<Self> {
        Some(Self { numerator: self.numerator.checked_abs()?, ..self })
    }

    /// Whether it is a whole number.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.denominator == 1
    }

    /// Whether it is above zero.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.numerator > 0
    }
}

impl fmt::Display for Rational {
    /// As a decimal where that is exact, else as `a / b`; both are read back as the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut scale = 1i128;
        for places in 0..=18usize {
            if scale % self.denominator == 0 {
                let Some(scaled) = self.numerator.checked_mul(scale / self.denominator) else { break };
                let digits = format!("{:0>width$}", scaled.unsigned_abs(), width = places + 1);
                let (whole, fraction) = digits.split_at(digits.len() - places);
                let sign = if scaled < 0 { "-" } else { "" };
                let point = if places > 0 { "." } else { "" };
                return write!(f, "{sign}{whole}{point}{fraction}");
            }
            scale *= 10;
        }
        write!(f, "{} / {}", self.numerator, self.denominator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_exact() {
        let r = |text| Rational::parse(text).unwrap();
        assert_eq!(r("0.1").plus(r("0.2")).unwrap(), r("0.3"));
        assert_eq!(r("1").over(r("3")).unwrap().times(r("3")).unwrap(), r("1.0"));
        assert_eq!(r("2").minus(r("5")).unwrap().to_string(), "-3");
        assert_eq!(r("1").over(r("3")).unwrap().to_string(), "1 / 3");
        assert_eq!(r("1,250.50").to_string(), "1250.5");
        assert_eq!((r("5."), r(".5"), r("-,5")), (r("5"), r("0.5"), r("-5")));
        assert_eq!(r("-120").to_string(), "-120");
        assert_eq!(r("0.05").to_string(), "0.05");
        assert_eq!(r("1").over(r("0")), None);
        for bad in ["", ".", "1.2.3", "1-2", "a", "-", "--1", "1e3", &"9".repeat(60)] {
            assert_eq!(Rational::parse(bad), None, "{bad}");
        }
    }
}
