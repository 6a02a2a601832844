//! Files and folders that are complete or absent, also after a loss of power.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;

/// Writes `bytes` to `path` so that a reader, or whoever comes after a crash, finds the old content or the new and
/// never a part: temporary file in the same folder, sync, rename, sync of the folder.
///
/// # Errors
/// The file could not be written; then `path` is as it was and the temporary file is gone.
pub fn write_atomically(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), Error> {
    let path = path.as_ref();
    let failed = |cause| Error::File { action: "write", path: path.to_path_buf(), cause };
    let temporary = temporary_path(path).map_err(failed)?;
    let written = write_synced(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if let Err(cause) = written {
        // The first error is the one to report; the temporary file may not even exist.
        let _ = fs::remove_file(&temporary);
        return Err(failed(cause));
    }
    sync_folder(parent(path)).map_err(failed)
}

/// Creates `folder` and what is missing above it, so that the entries survive a loss of power.
pub(crate) fn create_folder(folder: &Path) -> Result<(), Error> {
    let failed = |cause| Error::File { action: "create the folder", path: folder.to_path_buf(), cause };
    let absent: Vec<&Path> = folder
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .collect();
    fs::create_dir_all(folder).map_err(failed)?;
    absent.into_iter().try_for_each(|created| sync_folder(parent(created))).map_err(failed)
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // Truncates what a killed process of the same id may have left.
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A name that no other living writer uses, in this process or another.
fn temporary_path(path: &Path) -> io::Result<PathBuf> {
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path does not end in a file name"))?;
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{}-{write}.tmp", std::process::id()));
    Ok(path.with_file_name(temporary))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the names in `folder` durable; elsewhere than on Unix a folder cannot be opened for that.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn replaces_the_old_content_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        write_atomically(&path, b"the first, longer content").unwrap();
        write_atomically(&path, b"second").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"second");
        assert_eq!(names(folder.path()), ["report.html"]);
    }

    #[test]
    fn failure_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("occupied");
        fs::create_dir_all(path.join("by a folder")).unwrap();
        let message = write_atomically(&path, b"bytes").unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
        assert_eq!(names(folder.path()), ["occupied"]);
    }

    #[test]
    fn leftovers_of_a_killed_process_of_the_same_id_are_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        for write in 0..100 {
            let leftover = format!(".report.html.{}-{write}.tmp", std::process::id());
            fs::write(folder.path().join(leftover), "a leftover, longer than what is written").unwrap();
        }
        let path = folder.path().join("report.html");
        write_atomically(&path, b"whole").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }

    #[test]
    fn refuses_a_path_without_a_file_name() {
        assert!(write_atomically("/", b"bytes").is_err());
        assert!(write_atomically("", b"bytes").is_err());
    }

    #[test]
    fn creates_nested_folders_and_accepts_existing_ones() {
        let folder = tempfile::tempdir().unwrap();
        let nested = folder.path().join("runs").join("first");
        create_folder(&nested).unwrap();
        create_folder(&nested).unwrap();
        assert!(nested.is_dir());
    }
}
