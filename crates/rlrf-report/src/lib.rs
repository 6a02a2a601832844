//! What a run shows: summary.json and a self-contained report.html.
