//! The run on disk: one SQLite file of keyed rows, atomic artifacts, resume.
