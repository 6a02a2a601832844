//! Word problems whose answer is an arithmetic expression: exact checking, critiques that name and localise an
//! error, and demonstrations to learn answering, refining and giving feedback from.

pub mod advice;
mod alignment;
pub mod checker;
pub mod critique;
pub mod demonstrations;
pub mod expression;
pub mod mistakes;
pub mod preferences;
pub mod problem;
pub mod rational;

pub use advice::Advice;
pub use checker::ArithmeticChecker;
pub use demonstrations::{DemonstrationConfig, Demonstrations};
pub use expression::{Expression, Operator};
pub use problem::WordProblem;
pub use rational::Rational;
