//! What a run shows: `summary.json` for machines, a self-contained `report.html` for people, and a text table for
//! the terminal.

mod figure;
pub mod html;
mod progress;
pub mod summary;
mod table;
mod warning;

pub use html::report_html;
pub use summary::{Summary, Timing, Trace, TraceFeedback, TrainingCurve};
pub use table::{comparison_table, evaluation_table, final_table};
pub use warning::warnings;
