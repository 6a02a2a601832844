//! GSM8K, SVAMP and MAWPS: word problems whose answer is one number, compared exactly.

pub mod number;
