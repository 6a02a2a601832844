//! `model.safetensors`, whole or in shards, to and from the flat parameter vector.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use half::{bf16, f16};
use memmap2::Mmap;
use rayon::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, View};
use serde_json::Value;

use crate::fields::read_json_object;
use crate::{Decoder, Error, Layout, ModelConfig, ParameterEntry, Result};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const EMBEDDING: &str = "model.embed_tokens.weight";
const LANGUAGE_HEAD: &str = "lm_head.weight";

/// Values converted by one thread at a time.
const CHUNK: usize = 1 << 16;

/// Reads configuration and weights of a model folder; the weights may be f32, bf16 or f16, and become f32.
///
/// # Errors
/// `config.json` cannot be used; a file is absent, truncated or corrupt; a tensor is missing, unexpected, misshapen, of
/// another type, or holds a value that is not finite.
pub fn load_decoder(folder: &Path) -> Result<Decoder> {
    let config = ModelConfig::load(folder)?;
    let parameters = read_parameters(folder, &config)?;
    Decoder::from_parameters(config, parameters)
}

/// Writes all parameters as one `model.safetensors` in f32.
///
/// # Errors
/// The file cannot be written.
pub fn write_weights(folder: &Path, decoder: &Decoder) -> Result<()> {
    let tensors = decoder.layout().entries().iter().map(|entry| {
        (entry.name.clone(), entry.shape.as_slice(), &decoder.parameters()[entry.range.clone()])
    });
    write_tensors(&folder.join(WEIGHTS), tensors)
}

/// Writes named tensors in f32 as one safetensors file.
pub(crate) fn write_tensors<'a>(
    file: &Path,
    tensors: impl Iterator<Item = (String, &'a [usize], &'a [f32])>,
) -> Result<()> {
    let tensors = tensors.map(|(name, shape, values)| (name, Parameter { shape, values }));
    // The key by which transformers recognises the file.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(tensors, Some(metadata), file).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(source) => Error::io(file, "write", source),
        other => Error::file(file, format!("cannot be written: {other}")),
    })
}

/// Reads just these tensors (name, shape, place) of a file into `parameters`.
pub(crate) fn read_tensors(
    file: &Path,
    names: &[(String, Vec<usize>, Range<usize>)],
    parameters: &mut [f32],
) -> Result<()> {
    let map = map(file)?;
    let mut tensors = Tensors::default();
    tensors.add(file, &map)?;
    for (name, shape, place) in names {
        let Some(stored) = tensors.by_name.remove(name) else {
            return Err(Error::tensor(file, name, "missing".to_owned()));
        };
        if stored.view.shape() != shape {
            let problem = format!("expected shape {shape:?}, found {:?}", stored.view.shape());
            return Err(Error::tensor(file, name, problem));
        }
        stored.read(&mut parameters[place.clone()]).map_err(|problem| Error::tensor(file, name, problem))?;
    }
    match tensors.by_name.first_key_value() {
        None => Ok(()),
        Some((name, _)) => {
            Err(Error::tensor(file, name, "unexpected: it is in no adapted projection".to_owned()))
        }
    }
}

/// One tensor to be written.
struct Parameter<'a> {
    shape: &'a [usize],
    values: &'a [f32],
}

impl View for Parameter<'_> {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        little_endian(self.values)
    }

    fn data_len(&self) -> usize {
        size_of_val(self.values)
    }
}

/// The values as files hold them.
pub(crate) fn little_endian(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        return Cow::Borrowed(bytemuck::cast_slice(values));
    }
    Cow::Owned(values.iter().flat_map(|value| value.to_le_bytes()).collect())
}

fn read_parameters(folder: &Path, config: &ModelConfig) -> Result<Vec<f32>> {
    let layout = Layout::new(config);
    let index = folder.join(INDEX);
    let (files, placed) = if !folder.join(WEIGHTS).exists() && index.exists() {
        shards(&index)?
    } else {
        (vec![folder.join(WEIGHTS)], BTreeMap::new())
    };
    let maps = files.iter().map(|file| map(file)).collect::<Result<Vec<_>>>()?;
    let mut tensors = Tensors::default();
    for (file, map) in files.iter().zip(&maps) {
        tensors.add(file, map)?;
    }
    for (name, file) in &placed {
        if tensors.by_name.get(name.as_str()).is_none_or(|stored| stored.file != file) {
            return Err(Error::tensor(file, name, format!("absent from this file, where {INDEX} places it")));
        }
    }
    let sources = tensors.select(config, &layout, if placed.is_empty() { &files[0] } else { &index })?;
    // Allocated only now: every shape has been found in a file of that size.
    let mut parameters = vec![0.0; layout.len()];
    for (entry, stored) in layout.entries().iter().zip(sources) {
        stored
            .read(&mut parameters[entry.range.clone()])
            .map_err(|problem| Error::tensor(stored.file, &entry.name, problem))?;
    }
    Ok(parameters)
}

/// The files that an index names, and where it places each tensor.
fn shards(index: &Path) -> Result<(Vec<PathBuf>, BTreeMap<String, PathBuf>)> {
    let object = read_json_object(index)?;
    let places = object.get("weight_map").and_then(Value::as_object).filter(|places| !places.is_empty());
    let places =
        places.ok_or_else(|| Error::field(index, "weight_map", "missing, or not an object of file names"))?;
    let mut placed = BTreeMap::new();
    for (tensor, name) in places {
        let name = name.as_str().unwrap_or_default();
        let mut components = Path::new(name).components();
        if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
            return Err(Error::tensor(
                index,
                tensor,
                format!("`{name}` is not the name of a file in this folder"),
            ));
        }
        let file = index.with_file_name(name);
        if !file.is_file() {
            return Err(Error::tensor(index, tensor, format!("its file `{name}` is absent; download it")));
        }
        placed.insert(tensor.clone(), file);
    }
    let files: BTreeSet<_> = placed.values().cloned().collect();
    Ok((files.into_iter().collect(), placed))
}

fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(|source| Error::io(path, "open", source))?;
    // SAFETY: the map is only read, and dropped before `load_decoder` returns. Another process that truncates the
    // file meanwhile could stop this one; it could not make it read memory that is not the file's.
    unsafe { Mmap::map(&file) }.map_err(|source| Error::io(path, "map", source))
}

/// A tensor in a mapped file.
struct Stored<'a> {
    file: &'a Path,
    map: &'a Mmap,
    view: TensorView<'a>,
}

impl Stored<'_> {
    /// Converts it to f32; the error says what is wrong with it. Its pages do not stay in memory beside the values.
    fn read(&self, values: &mut [f32]) -> std::result::Result<(), String> {
        convert(&self.view, values)?;
        #[cfg(unix)]
        {
            let bytes = self.view.data();
            let offset = bytes.as_ptr() as usize - self.map.as_ptr() as usize;
            // SAFETY: the map is of a file and only read: a page that is needed again is read again.
            let advised = unsafe {
                self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, bytes.len())
            };
            // No more than advice.
            let _ = advised;
        }
        Ok(())
    }
}

/// All tensors of a model's files.
#[derive(Default)]
struct Tensors<'a> {
    by_name: BTreeMap<String, Stored<'a>>,
}

impl<'a> Tensors<'a> {
    fn add(&mut self, file: &'a Path, map: &'a Mmap) -> Result<()> {
        let tensors = SafeTensors::deserialize(map)
            .map_err(|error| Error::file(file, format!("truncated or not a safetensors file: {error}")))?;
        for (name, view) in tensors.tensors() {
            if let Some(other) = self.by_name.get(&name) {
                return Err(Error::tensor(file, name, format!("also in {}", other.file.display())));
            }
            self.by_name.insert(name, Stored { file, map, view });
        }
        Ok(())
    }

    /// The tensor of each entry of the layout, in its order; nothing may be left over.
    fn select(mut self, config: &ModelConfig, layout: &Layout, whole: &Path) -> Result<Vec<Stored<'a>>> {
        // Buffers that older transformers wrote; the frequencies follow from the configuration.
        self.by_name.retain(|name, _| !name.ends_with("rotary_emb.inv_freq"));
        if config.tie_word_embeddings
            && let Some(head) = self.by_name.remove(LANGUAGE_HEAD)
        {
            // Both names mean one tensor; a writer may have kept either.
            self.by_name.entry(EMBEDDING.to_owned()).or_insert(head);
        }
        let take = |entry: &ParameterEntry| {
            let Some(stored) = self.by_name.remove(&entry.name) else {
                let hint =
                    if entry.name == LANGUAGE_HEAD { "; or should tie_word_embeddings be true?" } else { "" };
                return Err(Error::tensor(whole, &entry.name, format!("missing{hint}")));
            };
            if stored.view.shape() != entry.shape {
                let found = stored.view.shape();
                let problem = format!("expected shape {:?} by config.json, found {found:?}", entry.shape);
                return Err(Error::tensor(stored.file, &entry.name, problem));
            }
            Ok(stored)
        };
        let selected = layout.entries().iter().map(take).collect::<Result<Vec<_>>>()?;
        match self.by_name.first_key_value() {
            None => Ok(selected),
            Some((name, stored)) => {
                let problem = format!("unexpected: {} has no such part", config.architecture());
                Err(Error::tensor(stored.file, name, problem))
            }
        }
    }
}

/// Converts a tensor to f32; the error says what is wrong with it.
fn convert(view: &TensorView<'_>, values: &mut [f32]) -> std::result::Result<(), String> {
    let finite = match view.dtype() {
        Dtype::F32 => convert_chunks(view.data(), values, f32::from_le_bytes),
        Dtype::BF16 => convert_chunks(view.data(), values, |bytes| bf16::from_le_bytes(bytes).to_f32()),
        Dtype::F16 => convert_chunks(view.data(), values, |bytes| f16::from_le_bytes(bytes).to_f32()),
        other => return Err(format!("type {other:?} is not supported; supported: F32, BF16, F16")),
    };
    if finite { Ok(()) } else { Err("holds values that are not finite (NaN or infinity)".to_owned()) }
}

/// Converts with all threads; false if a value is not finite.
fn convert_chunks<const WIDTH: usize>(
    bytes: &[u8],
    values: &mut [f32],
    decode: impl Fn([u8; WIDTH]) -> f32 + Sync,
) -> bool {
    let (elements, _) = bytes.as_chunks::<WIDTH>();
    values
        .par_chunks_mut(CHUNK)
        .zip(elements.par_chunks(CHUNK))
        .map(|(values, elements)| {
            for (value, &element) in values.iter_mut().zip(elements) {
                *value = decode(element);
            }
            values.iter().all(|value| value.is_finite())
        })
        .reduce(|| true, |left, right| left & right)
}
