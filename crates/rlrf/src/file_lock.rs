//! Waiting for another command that works on the same files.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::console::{Console, interrupted};

/// An advisory lock, held until it is dropped or its process ends. The file stays.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl FileLock {
    /// Locks the file, which is made if there is none; while another process holds it, says so once and waits.
    pub(crate) fn wait(path: &Path, console: &Console) -> Result<Self> {
        let failed = || format!("{}: cannot lock", path.display());
        let file =
            OpenOptions::new().write(true).create(true).truncate(false).open(path).with_context(failed)?;
        let mut said = false;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::Error(cause)) => return Err(cause).with_context(failed),
                Err(TryLockError::WouldBlock) if interrupted() => bail!(rlrf_method::Error::Interrupted),
                Err(TryLockError::WouldBlock) => {}
            }
            if !said {
                console.say(&format!("waiting for another command that holds {}", path.display()));
                said = true;
            }
            sleep(Duration::from_millis(200));
        }
    }
}
