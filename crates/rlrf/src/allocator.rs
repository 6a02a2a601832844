//! The allocator of the binary.

use libmimalloc_sys::{mi_option_get, mi_option_set, mi_option_set_default, mi_option_t};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`, the same in versions 2 and 3.
const PURGE_DELAY: mi_option_t = 15;

/// The delay that means never.
const KEEP: std::ffi::c_long = -1;

/// Has freed memory stay mapped, unless the environment says otherwise (`MIMALLOC_PURGE_DELAY`): the next stage needs as much again,
/// and fresh pages for its buffers would cost more than some of its arithmetic. To be called once, first of all.
pub(crate) fn keep_freed_memory() {
    // SAFETY: it sets a number that mimalloc reads.
    unsafe { mi_option_set_default(PURGE_DELAY, KEEP) };
}

/// Runs `work`, whose freed memory goes back to the system at once: what reading a file leaves behind is of no use later. Elsewhere
/// [`keep_freed_memory`] holds, or what the environment says.
pub(crate) fn return_freed_memory<T>(work: impl FnOnce() -> T) -> T {
    // SAFETY: it reads a number.
    if unsafe { mi_option_get(PURGE_DELAY) } != KEEP {
        return work();
    }
    // SAFETY: it sets a number that mimalloc reads.
    let set = |delay| unsafe { mi_option_set(PURGE_DELAY, delay) };
    set(0);
    let result = work();
    set(KEEP);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_delay_of_purging() {
        // SAFETY: it reads a number.
        let get = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
            assert_eq!(get(), 1000, "milliseconds, by default in version 3");
            keep_freed_memory();
            assert_eq!(get(), -1);
            assert_eq!(return_freed_memory(get), 0);
            assert_eq!(get(), -1);
        }
    }
}
