//! A model folder: everything that Hugging Face tools expect in it, read and written whole.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::fields::read_json_object;
use crate::peft::{ADAPTER_CONFIG, base_of};
use crate::weights::{little_endian, load_decoder, write_weights};
use crate::{Adapter, ChatTemplate, Decoder, Error, Head, Result, Tokenizer};

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const GENERATION_CONFIG: &str = "generation_config.json";
/// Holds the adapter that was merged last.
const ADAPTER_FOLDER: &str = "adapter";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

/// Ends of the hidden names of our own folders beside a model's: nobody else's are ever removed.
const PARTIAL: &str = "partial-by-rlrf";
const REPLACED: &str = "replaced-by-rlrf";

/// Files that are written back as they were read.
const CARRIED: [&str; 10] = [
    TOKENIZER_CONFIG,
    SPECIAL_TOKENS_MAP,
    CHAT_TEMPLATE,
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "LICENSE",
    "LICENSE.txt",
    "NOTICE",
];

/// A decoder with its tokenizer, chat template and end tokens.
#[derive(Debug, Clone)]
pub struct Model {
    /// The network.
    pub decoder: Decoder,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
    /// The chat template.
    pub chat: ChatTemplate,
    /// Tokens that end a generation (`generation_config.json`, `config.json`, end of turn).
    pub end_tokens: Vec<u32>,
    /// The folder that it stands in; empty for a model that was never saved.
    pub folder: PathBuf,
    /// The adapters that were merged into the decoder last, and the folder of the model without them: written beside
    /// the weights, in `adapter/`, unless the model without them was never saved.
    pub(crate) adapter: Option<(Adapter, PathBuf)>,
    /// `generation_config.json`, empty if there was none.
    generation_config: Map<String, Value>,
    /// Other files of the folder, by name.
    pub(crate) files: BTreeMap<String, Vec<u8>>,
}

impl Model {
    /// Reads the folder of a language model: see [`Model::load_any`].
    ///
    /// # Errors
    /// Those of [`Model::load_any`]; a reward model.
    pub fn load(folder: &Path) -> Result<Self> {
        Self::load_any(folder)?.expect_head(Head::Language, folder, "it scores responses and writes none")
    }

    /// Reads the folder of a reward model: see [`Model::load_any`].
    ///
    /// # Errors
    /// Those of [`Model::load_any`]; a language model.
    pub fn load_reward(folder: &Path) -> Result<Self> {
        let problem = "it has no score head: train a reward model from it first";
        Self::load_any(folder)?.expect_head(Head::Score, folder, problem)
    }

    /// Reads a folder: a model, or an adapter in PEFT's layout, which is merged into the base model that it names. One that an interrupted [`Model::save`] had moved aside goes back to its place first.
    ///
    /// # Errors
    /// One clear error naming the file (and tensor or field) if anything is wrong.
    pub fn load_any(folder: &Path) -> Result<Self> {
        if !folder.exists()
            && let Ok(replaced) = beside(folder, REPLACED)
        {
            recover(folder, &replaced)?;
        }
        if !folder.is_dir() {
            return Err(Error::file(folder, "is not a folder; a model is a folder in Hugging Face layout"));
        }
        if folder.join(ADAPTER_CONFIG).is_file() && !folder.join("config.json").is_file() {
            let base = base_of(folder)?;
            let mut model = Self::load(&base)?;
            let adapter = Adapter::load(folder, model.decoder.layout())?;
            model.decoder.attach(adapter);
            model.merge_adapter();
            return Ok(Self { folder: folder.to_path_buf(), ..model });
        }
        let mut files = BTreeMap::new();
        for name in CARRIED {
            if let Some(bytes) = read_optional(&folder.join(name))? {
                files.insert(name.to_owned(), bytes);
            }
        }
        let tokenizer = Tokenizer::load(folder)?;
        let decoder = load_decoder(folder)?;
        let generation_config = optional_object(&folder.join(GENERATION_CONFIG))?;
        let model = Self::assemble(decoder, tokenizer, generation_config, files, folder)?;
        Ok(Self { folder: folder.to_path_buf(), ..model })
    }

    fn expect_head(self, head: Head, folder: &Path, problem: &str) -> Result<Self> {
        let config = self.decoder.config();
        if config.head == head {
            return Ok(self);
        }
        let (kind, wanted) = match config.head {
            Head::Score => ("reward model", "language model"),
            Head::Language => ("language model", "reward model"),
        };
        let problem = format!("this is a {kind} ({}), not a {wanted}: {problem}", config.architecture());
        Err(Error::field(&folder.join("config.json"), "architectures", problem))
    }

    /// Puts a model together from its parts; `folder` is named in errors.
    pub(crate) fn assemble(
        decoder: Decoder,
        tokenizer: Tokenizer,
        generation_config: Map<String, Value>,
        files: BTreeMap<String, Vec<u8>>,
        folder: &Path,
    ) -> Result<Self> {
        let config = decoder.config();
        if tokenizer.largest_id() as usize >= config.vocab_size {
            let problem = format!(
                "{}, but tokenizer.json has ids up to {}: they do not belong together",
                config.vocab_size,
                tokenizer.largest_id()
            );
            return Err(Error::field(&folder.join("config.json"), "vocab_size", problem));
        }
        let named = Named::new(&files, folder)?;
        let [bos_token, eos_token] = ["bos_token", "eos_token"].map(|name| {
            named.token(name).or_else(|| {
                let id = token_ids(config.original(&format!("{name}_id"))?).into_iter().flatten().next()?;
                tokenizer.token(id)
            })
        });
        let jinja = files.get(CHAT_TEMPLATE).map(|source| String::from_utf8_lossy(source));
        let chat = ChatTemplate::new(
            jinja.as_deref(),
            &named.tokenizer_config,
            bos_token.as_deref(),
            eos_token.as_deref(),
            &tokenizer,
        )
        .map_err(|error| {
            let file = if jinja.is_some() { CHAT_TEMPLATE } else { TOKENIZER_CONFIG };
            Error::file(&folder.join(file), error.to_string())
        })?;
        let mut end_tokens = Vec::new();
        for (file, value) in [
            (GENERATION_CONFIG, generation_config.get("eos_token_id")),
            ("config.json", config.original("eos_token_id")),
        ] {
            let Some(value) = value.filter(|value| !value.is_null()) else { continue };
            let ids = token_ids(value).filter(|ids| ids.iter().all(|&id| (id as usize) < config.vocab_size));
            let Some(ids) = ids else {
                let problem = format!(
                    "expected a token id below {} or a list of them, found {value}",
                    config.vocab_size
                );
                return Err(Error::field(&folder.join(file), "eos_token_id", problem));
            };
            end_tokens.extend(ids);
        }
        end_tokens.push(chat.end_of_turn());
        let mut seen = Vec::new();
        end_tokens.retain(|token| {
            !seen.contains(token) && {
                seen.push(*token);
                true
            }
        });
        Ok(Self {
            decoder,
            tokenizer,
            chat,
            end_tokens,
            folder: PathBuf::new(),
            adapter: None,
            generation_config,
            files,
        })
    }

    /// Writes a folder that transformers loads (f32 safetensors): under a temporary name beside it, synced, then
    /// renamed; an existing folder of that name is replaced only when the new one is whole.
    ///
    /// # Errors
    /// A file cannot be written, or `folder` exists and is not a model folder. Nothing is left behind but what was there.
    pub fn save(&self, folder: &Path) -> Result<()> {
        write_folder(folder, |folder| {
            for (name, bytes) in &self.files {
                write_file(&folder.join(name), bytes)?;
            }
            if !self.files.contains_key(TOKENIZER_CONFIG) {
                write_json(&folder.join(TOKENIZER_CONFIG), self.minimal_tokenizer_config())?;
            }
            write_json(&folder.join("config.json"), self.decoder.config().to_json())?;
            write_json(&folder.join(GENERATION_CONFIG), self.generation_config())?;
            write_file(&folder.join("tokenizer.json"), self.tokenizer.json())?;
            write_weights(folder, &self.decoder)?;
            if let Some((adapter, base)) = &self.adapter
                && !base.as_os_str().is_empty()
            {
                // From anywhere: PEFT takes a relative path from its working folder.
                let base = &fs::canonicalize(base).unwrap_or_else(|_| base.clone());
                let folder = folder.join(ADAPTER_FOLDER);
                fs::create_dir(&folder).map_err(|source| Error::io(&folder, "create", source))?;
                adapter.save(&folder, base)?;
            }
            Ok(())
        })
    }

    /// Merges the decoder's adapters, if it has any, into its weights, and keeps them for [`Model::save`].
    pub fn merge_adapter(&mut self) {
        self.adapter = self.decoder.merge().map(|adapter| (adapter, self.folder.clone()));
    }

    /// blake3 digest of configuration, parameters, tokenizer, chat template and end tokens: the model's identity in run
    /// rows. The same before and after [`Model::save`].
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut part = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        part(Value::Object(self.decoder.config().to_json()).to_string().as_bytes());
        part(self.tokenizer.json());
        part(self.chat.source().as_bytes());
        part(self.chat.bos_token().as_bytes());
        part(self.chat.eos_token().as_bytes());
        part(&self.end_tokens.iter().flat_map(|token| token.to_le_bytes()).collect::<Vec<u8>>());
        for chunk in self.decoder.parameters().chunks(1 << 16) {
            part(&little_endian(chunk));
        }
        hasher.finalize().to_hex().to_string()
    }

    fn generation_config(&self) -> Map<String, Value> {
        let mut object = self.generation_config.clone();
        let ids = match self.end_tokens[..] {
            [token] => token.into(),
            _ => json!(self.end_tokens),
        };
        object.insert("eos_token_id".into(), ids);
        for name in ["bos_token_id", "pad_token_id"] {
            if let Some(id) = self.decoder.config().original(name).filter(|id| !id.is_null()) {
                object.entry(name).or_insert_with(|| id.clone());
            }
        }
        object
    }

    fn minimal_tokenizer_config(&self) -> Map<String, Value> {
        let mut object = Map::new();
        object.insert("tokenizer_class".into(), "PreTrainedTokenizerFast".into());
        for (name, token) in [("bos_token", self.chat.bos_token()), ("eos_token", self.chat.eos_token())] {
            if !token.is_empty() {
                object.insert(name.into(), token.into());
            }
        }
        object.insert("clean_up_tokenization_spaces".into(), false.into());
        object.insert("model_max_length".into(), self.decoder.config().max_position_embeddings.into());
        object
    }
}

/// Where the texts of `bos_token` and its like are found.
pub(crate) struct Named {
    tokenizer_config: Map<String, Value>,
    special_tokens_map: Map<String, Value>,
}

impl Named {
    pub(crate) fn new(files: &BTreeMap<String, Vec<u8>>, folder: &Path) -> Result<Self> {
        let object = |name: &str| match files.get(name) {
            None => Ok(Map::new()),
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|error| Error::file(&folder.join(name), format!("is not a JSON object: {error}"))),
        };
        Ok(Self {
            tokenizer_config: object(TOKENIZER_CONFIG)?,
            special_tokens_map: object(SPECIAL_TOKENS_MAP)?,
        })
    }

    pub(crate) fn token(&self, name: &str) -> Option<String> {
        [&self.tokenizer_config, &self.special_tokens_map].into_iter().find_map(|object| {
            let value = object.get(name)?;
            Some(value.as_str().or_else(|| value["content"].as_str())?.to_owned())
        })
    }
}

/// A token id, or a list of them.
fn token_ids(value: &Value) -> Option<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    match value {
        Value::Array(values) => values.iter().map(id).collect(),
        value => id(value).map(|id| vec![id]),
    }
}

fn read_optional(file: &Path) -> Result<Option<Vec<u8>>> {
    if !file.exists() {
        return Ok(None);
    }
    fs::read(file).map(Some).map_err(|source| Error::io(file, "read", source))
}

fn optional_object(file: &Path) -> Result<Map<String, Value>> {
    if file.exists() { read_json_object(file) } else { Ok(Map::new()) }
}

pub(crate) fn write_file(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).map_err(|source| Error::io(file, "write", source))
}

pub(crate) fn write_json(file: &Path, object: Map<String, Value>) -> Result<()> {
    write_file(file, format!("{:#}\n", Value::Object(object)).as_bytes())
}

/// Writes a folder whole or not at all: `fill` writes its files into a temporary folder beside it, which is synced and
/// renamed. An existing model folder of that name makes way only then; should the machine stop between the two
/// renames, the next call, or [`Model::load`], finds the old one as `.NAME.replaced-by-rlrf` and puts it back first.
///
/// # Errors
/// Those of `fill`; a file cannot be synced or renamed; `folder` exists and holds something else than a model.
pub fn write_folder(folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let temporary = beside(folder, &format!("{}.{PARTIAL}", std::process::id()))?;
    let replaced = beside(folder, REPLACED)?;
    let parent = parent(folder);
    fs::create_dir_all(parent).map_err(|source| Error::io(parent, "create", source))?;
    recover(folder, &replaced)?;
    refuse_foreign(folder)?;
    let written = write_temporary(&temporary, fill).and_then(|()| exchange(&temporary, folder, &replaced));
    if written.is_err() {
        // What went wrong first is what the caller must hear.
        let _ = fs::remove_dir_all(&temporary);
        return written;
    }
    sync(parent)
}

/// `.NAME.SUFFIX` beside the folder NAME.
fn beside(folder: &Path, suffix: &str) -> Result<PathBuf> {
    let Some(name) = folder.file_name() else {
        return Err(Error::file(folder, "has no name of its own; give the model folder a name"));
    };
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".");
    beside.push(suffix);
    Ok(folder.with_file_name(beside))
}

/// Removes what a killed process left beside `folder` while it wrote a model there. Only for who knows that no other
/// process is writing there now.
///
/// # Errors
/// A leftover cannot be removed.
pub fn clear_leftovers(folder: &Path) -> Result<()> {
    let Ok(prefix) = beside(folder, "") else { return Ok(()) };
    let Some(prefix) = prefix.file_name().and_then(|prefix| prefix.to_str()) else { return Ok(()) };
    let Ok(entries) = fs::read_dir(parent(folder)) else { return Ok(()) };
    for entry in entries.flatten() {
        let found = entry.file_name();
        let process = found
            .to_str()
            .and_then(|found| found.strip_prefix(prefix)?.strip_suffix(PARTIAL)?.strip_suffix('.'));
        if process.is_some_and(|process| process.parse::<u32>().is_ok()) {
            remove_folder(&entry.path())?;
        }
    }
    Ok(())
}

fn parent(folder: &Path) -> &Path {
    match folder.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// After an interruption: the old folder goes back to its place, or away if the new one took it.
fn recover(folder: &Path, replaced: &Path) -> Result<()> {
    if !replaced.exists() {
        return Ok(());
    }
    if folder.exists() {
        return remove_folder(replaced);
    }
    fs::rename(replaced, folder).map_err(|source| Error::io(replaced, "rename back", source))
}

/// What a model folder may hold: the files that are written here, and those that others write of the same kind.
fn is_of_model(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let suffixes = [".safetensors", ".safetensors.index.json"];
    let names = ["config.json", "tokenizer.json", GENERATION_CONFIG, ADAPTER_FOLDER, ADAPTER_CONFIG];
    names.contains(&name) || CARRIED.contains(&name) || suffixes.iter().any(|suffix| name.ends_with(suffix))
}

/// Refuses a folder that a model may not take the place of: one that holds something else than a model.
///
/// # Errors
/// Names what it holds.
pub fn refuse_foreign(folder: &Path) -> Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    if !folder.is_dir() {
        return Err(Error::file(folder, "is a file; give a folder for the model"));
    }
    for entry in fs::read_dir(folder).map_err(|source| Error::io(folder, "read", source))? {
        let name = entry.map_err(|source| Error::io(folder, "read", source))?.file_name();
        if !is_of_model(&name) {
            let held = format!(
                "exists and holds {}, which is no part of a model; choose another name",
                name.to_string_lossy()
            );
            return Err(Error::file(folder, held));
        }
    }
    Ok(())
}

fn write_temporary(temporary: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if temporary.exists() {
        remove_folder(temporary)?;
    }
    fs::create_dir(temporary).map_err(|source| Error::io(temporary, "create", source))?;
    fill(temporary)?;
    sync_all(temporary)
}

/// Syncs a folder and everything below it.
fn sync_all(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(|source| Error::io(folder, "read", source))? {
        let path = entry.map_err(|source| Error::io(folder, "read", source))?.path();
        if path.is_dir() { sync_all(&path)? } else { sync(&path)? }
    }
    sync(folder)
}

fn exchange(temporary: &Path, folder: &Path, replaced: &Path) -> Result<()> {
    let replaces = folder.exists();
    if replaces {
        fs::rename(folder, replaced).map_err(|source| Error::io(folder, "rename", source))?;
    }
    if let Err(source) = fs::rename(temporary, folder) {
        if replaces {
            fs::rename(replaced, folder).map_err(|source| Error::io(replaced, "rename back", source))?;
        }
        return Err(Error::io(folder, "rename into place", source));
    }
    if replaces { remove_folder(replaced) } else { Ok(()) }
}

fn remove_folder(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).map_err(|source| Error::io(folder, "remove", source))
}

fn sync(path: &Path) -> Result<()> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(|source| Error::io(path, "sync", source))
}
