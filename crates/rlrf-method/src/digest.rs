//! Digests: the identity of rows, and the random streams of samples.

use serde::Serialize;

/// The hexadecimal blake3 digest (first 32 characters) of a value's canonical JSON.
///
/// Rows are kept under the digest of everything that they depend on; two equal digests mean equal inputs.
pub fn digest(value: &impl Serialize) -> String {
    let mut hasher = blake3::Hasher::new();
    // A hasher accepts every byte, and the values digested here are plain data: serialising cannot fail.
    let _ = serde_json::to_writer(&mut hasher, value);
    hasher.finalize().to_hex()[..32].to_string()
}

/// The random stream of one sample: depends on the run's seed, what is drawn, for whom, and the sample's index;
/// never on batch composition or order.
pub fn stream(seed: u64, purpose: &str, instruction: &str, index: u32) -> u64 {
    let digest = blake3::hash(format!("{seed}\u{1f}{purpose}\u{1f}{instruction}\u{1f}{index}").as_bytes());
    u64::from_le_bytes(std::array::from_fn(|byte| digest.as_bytes()[byte]))
}

/// The random stream of a judgement: depends on what is asked alone, so that equal prompts get equal feedback.
pub fn stream_of(value: &impl Serialize) -> u64 {
    u64::from_str_radix(&digest(value)[..16], 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_differ_in_every_part() {
        let base = stream(1, "sample", "a", 0);
        assert_eq!(base, stream(1, "sample", "a", 0));
        for other in [
            stream(2, "sample", "a", 0),
            stream(1, "refine", "a", 0),
            stream(1, "sample", "b", 0),
            stream(1, "sample", "a", 1),
        ] {
            assert_ne!(base, other);
        }
    }
}
