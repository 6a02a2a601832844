//! GSM8K, SVAMP and MAWPS: word problems whose answer is one number, compared exactly.

mod csv;
mod evaluate;
pub mod number;
mod problem;
mod score;
mod template;

pub use evaluate::{Asking, evaluate};
pub use problem::{Gold, Problem, Source};
pub use score::{Response, score, score_texts};
pub use template::{DEFAULT_TEMPLATE, Template};
