//! The method as plain data and functions: instructions, aspects, feedback, selection, pairs, the loop.

pub mod row;

pub use row::{Row, RowStore, StoreError, Table};
