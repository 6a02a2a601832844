//! The allocator of the binary.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`, where its value has stayed the same since version 1.8.
const PURGE_DELAY: mi_option_t = 15;

/// Has freed memory stay mapped, unless the environment says otherwise (`MIMALLOC_PURGE_DELAY`): the next stage needs as much again,
/// and fresh pages for its buffers would cost more than some of its arithmetic. To be called once, first of all.
pub(crate) fn keep_freed_memory() {
    // SAFETY: it sets a number that mimalloc reads.
    unsafe { mi_option_set_default(PURGE_DELAY, -1) };
}
