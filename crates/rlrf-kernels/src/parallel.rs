//! When a loop that only reads and writes pays for a second thread.

/// Elements below which waking a second thread takes longer than it saves.
const ELEMENTS: usize = 32 * 1024;

/// How many chunks of `len` elements a task should have at least.
pub(crate) fn chunks(len: usize) -> usize {
    ELEMENTS.div_ceil(len.max(1))
}
