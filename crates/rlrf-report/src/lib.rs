//! What a run shows: `summary.json` for machines, a self-contained `report.html` for people, and a text table for
//! the terminal.

mod figure;
pub mod grid;
mod grid_table;
pub mod html;
mod progress;
pub mod summary;
mod table;
mod warning;

pub use grid::{Grid, GridRun};
pub use grid_table::grid_table;
pub use html::{grid_html, report_html};
pub use summary::{Divergence, Summary, Timing, Trace, TraceFeedback, TrainingCurve};
pub use table::{comparison_table, evaluation_table, final_table};
pub use warning::warnings;
