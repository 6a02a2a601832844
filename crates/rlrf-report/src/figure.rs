//! How figures read, the same on page and terminal.

/// Stands where there is no figure.
pub(crate) const NONE: &str = "–";

/// A share as a percentage with one decimal: `45.2%`.
pub(crate) fn percent(share: Option<f64>) -> String {
    finite(share).map_or(NONE.into(), |share| format!("{}%", decimal(share * 100.0, 1)))
}

/// `part / whole`; none where the whole is nothing.
pub(crate) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A difference of shares in percentage points, signed: `+6.2`.
pub(crate) fn points(difference: Option<f64>) -> String {
    signed(difference.map(|difference| difference * 100.0), 1)
}

/// A signed difference.
pub(crate) fn signed(difference: Option<f64>, decimals: usize) -> String {
    finite(difference).map_or(NONE.into(), |difference| {
        let text = decimal(difference, decimals);
        if text.starts_with('-') { text } else { format!("+{text}") }
    })
}

/// A value with this many decimals, without a negative zero.
pub(crate) fn decimal(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let zero = text.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.'));
    if zero { text.trim_start_matches('-').into() } else { text }
}

/// A value that may be missing.
pub(crate) fn optional(value: Option<f64>, decimals: usize) -> String {
    finite(value).map_or(NONE.into(), |value| decimal(value, decimals))
}

/// Three or four significant digits, for metrics whose size is not known beforehand.
pub(crate) fn significant(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && !(1e-3..1e7).contains(&size) {
        return format!("{value:.2e}");
    }
    let integer_digits = size.max(1.0).log10().floor() as usize + 1;
    let leading_zeros = if size == 0.0 || size >= 1.0 { 0 } else { (-size.log10()).floor() as usize };
    decimal(value, (4 + leading_zeros).saturating_sub(integer_digits))
}

/// A count with its thousands set apart: `12,345`.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `part of whole`: `452 of 1,000`.
pub(crate) fn part_of(part: u64, whole: u64) -> String {
    format!("{} of {}", count(part), count(whole))
}

/// Seconds as people say them: `41.5 s`, `12 min 5 s`, `3 h 20 min`.
pub(crate) fn duration(seconds: f64) -> String {
    if !seconds.is_finite() {
        return NONE.into();
    }
    let seconds = seconds.max(0.0);
    if seconds < 59.95 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds.round() as u64;
    match whole / 3600 {
        0 => format!("{} min {} s", whole / 60, whole % 60),
        hours => format!("{hours} h {} min", whole % 3600 / 60),
    }
}

fn finite(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!(percent(Some(0.4521)), "45.2%");
        assert_eq!(percent(Some(f64::NAN)), NONE);
        assert_eq!(percent(share(0, 0)), NONE);
        assert_eq!(points(Some(0.062)), "+6.2");
        assert_eq!(points(Some(-0.0001)), "+0.0");
        assert_eq!(points(Some(-0.031)), "-3.1");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(999), "999");
        assert_eq!(part_of(452, 1000), "452 of 1,000");
    }

    #[test]
    fn metrics_keep_their_digits() {
        for (value, text) in [
            (0.0, "0.000"),
            (0.6512, "0.651"),
            (-12.345, "-12.35"),
            (0.01234, "0.0123"),
            (123_456.7, "123457"),
            (3e-5, "3.00e-5"),
            (1e9, "1.00e9"),
        ] {
            assert_eq!(significant(value), text);
        }
    }

    #[test]
    fn durations_change_unit() {
        for (seconds, text) in [
            (0.0, "0.0 s"),
            (41.52, "41.5 s"),
            (59.97, "1 min 0 s"),
            (725.2, "12 min 5 s"),
            (12_000.0, "3 h 20 min"),
            (f64::INFINITY, NONE),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
