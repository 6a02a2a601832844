//! The state of a run on disk: one file, replaced whole, so that a crash at any moment leaves the old or the new one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensors, serialize_to_file};
use serde::{Deserialize, Serialize};

use crate::fingerprint::Fingerprint;
use crate::{Error, Result};

const FILE_NAME: &str = "training.safetensors";
const STATE_KEY: &str = "training_state";

/// Sums over the steps done.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// Sum of the losses.
    pub loss_sum: f64,
    /// Tokens that passed through the model.
    pub tokens: u64,
    /// Steps that warned of degenerate training.
    pub warnings: u64,
}

/// What stands in the file's header beside the tensors.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    fingerprint: Fingerprint,
    progress: Progress,
}

/// The three vectors of a run, each as long as the model's parameters.
#[derive(Debug)]
pub struct Vectors<T> {
    /// The parameters.
    pub parameters: T,
    /// AdamW's first moment.
    pub first_moment: T,
    /// AdamW's second moment.
    pub second_moment: T,
}

impl<T> Vectors<T> {
    fn named(self) -> [(&'static str, T); 3] {
        [
            ("parameters", self.parameters),
            ("first_moment", self.first_moment),
            ("second_moment", self.second_moment),
        ]
    }
}

/// What [`load`] found.
#[derive(Debug, PartialEq)]
pub enum Found {
    /// No checkpoint.
    Nothing,
    /// A checkpoint of this run; the vectors now hold its values.
    Resumed(Progress),
    /// A checkpoint that is broken or of another run, and why; the vectors are untouched.
    Unusable(String),
}

/// Replaces the checkpoint in `folder`, which is created if need be. Errors: [`Error::Checkpoint`].
pub fn save(
    folder: &Path,
    fingerprint: &Fingerprint,
    progress: &Progress,
    vectors: Vectors<&[f32]>,
) -> Result<()> {
    let path = folder.join(FILE_NAME);
    let temporary = folder.join(format!("{FILE_NAME}.partial"));
    let state = State { fingerprint: fingerprint.clone(), progress: progress.clone() };
    write(&temporary, &state, vectors)
        .and_then(|()| {
            File::open(&temporary)?.sync_all()?;
            fs::rename(&temporary, &path)?;
            // The rename itself is durable only once the folder is synced.
            File::open(folder)?.sync_all()?;
            Ok(())
        })
        .map_err(|error| {
            Error::checkpoint(&path, format!("{error}; free some disk space or choose another folder"))
        })
}

fn write(
    path: &Path,
    state: &State,
    vectors: Vectors<&[f32]>,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let header = HashMap::from([(STATE_KEY.to_owned(), serde_json::to_string(state)?)]);
    let mut tensors = Vec::new();
    for (name, values) in vectors.named() {
        tensors.push((name, TensorView::new(Dtype::F32, vec![values.len()], bytemuck::cast_slice(values))?));
    }
    serialize_to_file(tensors, Some(header), path)?;
    Ok(())
}

/// Reads the checkpoint in `folder` into `vectors`, if it is one of the run with this `fingerprint`.
pub fn load(folder: &Path, fingerprint: &Fingerprint, vectors: Vectors<&mut [f32]>) -> Found {
    let path = folder.join(FILE_NAME);
    match read(&path, fingerprint, vectors) {
        Ok(found) => found,
        Err(reason) => Found::Unusable(format!("{}: {reason}", path.display())),
    }
}

fn read(
    path: &Path,
    fingerprint: &Fingerprint,
    vectors: Vectors<&mut [f32]>,
) -> std::result::Result<Found, Box<dyn std::error::Error>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
        file => file?,
    };
    // SAFETY: the file is replaced by renaming, never changed in place, so the mapping stays as it is.
    let bytes = unsafe { memmap2::Mmap::map(&file)? };
    let (_, header) = SafeTensors::read_metadata(&bytes)?;
    let state =
        header.metadata().as_ref().and_then(|metadata| metadata.get(STATE_KEY)).ok_or("no training state")?;
    let state: State = serde_json::from_str(state)?;
    if let Some(part) = fingerprint.difference(&state.fingerprint) {
        return Err(format!("it belongs to a run with another {part}").into());
    }
    let tensors = SafeTensors::deserialize(&bytes)?;
    let mut copies = Vec::new();
    for (name, values) in vectors.named() {
        let tensor = tensors.tensor(name)?;
        let expected = std::mem::size_of_val::<[f32]>(values);
        if tensor.dtype() != Dtype::F32 || tensor.data().len() != expected {
            return Err(format!("tensor {name} is not {} values of f32", values.len()).into());
        }
        copies.push((values, tensor));
    }
    for (values, tensor) in copies {
        bytemuck::cast_slice_mut(values).copy_from_slice(tensor.data());
    }
    Ok(Found::Resumed(state.progress))
}

/// Deletes the checkpoint in `folder`, and the folder if nothing else is in it: for the caller, once the trained model is safe.
/// Errors: [`Error::Checkpoint`].
pub fn remove_checkpoint(folder: &Path) -> Result<()> {
    let files: [PathBuf; 2] = [folder.join(FILE_NAME), folder.join(format!("{FILE_NAME}.partial"))];
    for path in files {
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::checkpoint(&path, error)),
            _ => {}
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {
            Err(Error::checkpoint(folder, error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(data: &str) -> Fingerprint {
        Fingerprint { config: "c".into(), data: data.into(), model: "m".into() }
    }

    fn save_example(folder: &Path) -> Progress {
        let progress = Progress { step: 3, loss_sum: 0.1 + 0.2, tokens: 9, warnings: 1 };
        let vectors =
            Vectors { parameters: &[1.0, 2.0][..], first_moment: &[3.0, 4.0], second_moment: &[5.0, 6.0] };
        save(folder, &fingerprint("d"), &progress, vectors).unwrap();
        progress
    }

    fn load_example(folder: &Path, fingerprint: &Fingerprint) -> (Found, Vec<f32>) {
        let (mut parameters, mut first, mut second) = ([0.0; 2], [0.0; 2], [0.0; 2]);
        let vectors =
            Vectors { parameters: &mut parameters[..], first_moment: &mut first, second_moment: &mut second };
        let found = load(folder, fingerprint, vectors);
        (found, [parameters, first, second].concat())
    }

    #[test]
    fn what_is_saved_is_loaded_and_can_be_removed() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("checkpoint");
        assert_eq!(load_example(&folder, &fingerprint("d")).0, Found::Nothing);
        let progress = save_example(&folder);
        let (found, values) = load_example(&folder, &fingerprint("d"));
        assert_eq!(found, Found::Resumed(progress));
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        remove_checkpoint(&folder).unwrap();
        assert!(!folder.exists());
        remove_checkpoint(&folder).unwrap();
    }

    #[test]
    fn another_runs_or_a_broken_file_is_refused_whole() {
        let folder = tempfile::tempdir().unwrap();
        save_example(folder.path());
        let (found, values) = load_example(folder.path(), &fingerprint("other"));
        assert!(matches!(found, Found::Unusable(reason) if reason.contains("another data")));
        assert_eq!(values, [0.0; 6]);
        let path = folder.path().join(FILE_NAME);
        let whole = fs::read(&path).unwrap();
        for length in [0, 7, 40, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let (found, values) = load_example(folder.path(), &fingerprint("d"));
            assert!(matches!(found, Found::Unusable(_)), "{length} bytes: {found:?}");
            assert_eq!(values, [0.0; 6]);
        }
    }
}
