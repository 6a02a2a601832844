//! Weights: types, shards, and every way a file can be wrong.

use std::collections::BTreeMap;
use std::path::Path;

use half::{bf16, f16};
use rlrf_model::weights::load_decoder;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::json;

use crate::{assert_names, edit, fixture, model, saved};

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const NORM: &str = "model.norm.weight";

type Tensors = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn read(file: &Path) -> Tensors {
    let bytes = std::fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let owned = |view: TensorView<'_>| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
    tensors.tensors().into_iter().map(|(name, view)| (name, owned(view))).collect()
}

fn write(file: &Path, tensors: &Tensors) {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    std::fs::write(file, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn values(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// Saves a model, changes its tensors, and gives the folder.
fn changed(change: impl FnOnce(&mut Tensors)) -> (tempfile::TempDir, std::path::PathBuf) {
    let (parent, folder) = saved();
    let mut tensors = read(&folder.join(WEIGHTS));
    change(&mut tensors);
    write(&folder.join(WEIGHTS), &tensors);
    (parent, folder)
}

#[test]
fn written_tensors_have_their_names_shapes_and_values() {
    let (_parent, folder) = saved();
    let tensors = read(&folder.join(WEIGHTS));
    let decoder = model().decoder;
    assert_eq!(tensors.len(), decoder.layout().entries().len());
    for entry in decoder.layout().entries() {
        let (dtype, shape, bytes) = &tensors[&entry.name];
        assert_eq!((*dtype, shape), (Dtype::F32, &entry.shape));
        assert_eq!(values(bytes), decoder.parameters()[entry.range.clone()]);
    }
    let bytes = std::fs::read(folder.join(WEIGHTS)).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
}

#[test]
fn half_precision_becomes_f32() {
    for (dtype, encode, decode) in [
        (
            Dtype::BF16,
            (|value| bf16::from_f32(value).to_le_bytes()) as fn(f32) -> [u8; 2],
            (|value| bf16::from_f32(value).to_f32()) as fn(f32) -> f32,
        ),
        (Dtype::F16, |value| f16::from_f32(value).to_le_bytes(), |value| f16::from_f32(value).to_f32()),
    ] {
        let (_parent, folder) = changed(|tensors| {
            for (kind, _, bytes) in tensors.values_mut() {
                *kind = dtype;
                *bytes = values(bytes).into_iter().flat_map(encode).collect();
            }
        });
        let expected: Vec<f32> = model().decoder.parameters().iter().map(|&value| decode(value)).collect();
        assert_eq!(load_decoder(&folder).unwrap().parameters(), expected);
    }
}

/// Splits a saved model into two files and an index.
fn sharded() -> (tempfile::TempDir, std::path::PathBuf) {
    let (parent, folder) = saved();
    let tensors = read(&folder.join(WEIGHTS));
    let (mut first, mut second) = (tensors.clone(), tensors);
    first.retain(|name, _| name.contains("layers.0"));
    second.retain(|name, _| !name.contains("layers.0"));
    let place = |tensors: &Tensors, file: &str| {
        tensors.keys().map(|name| (name.clone(), json!(file))).collect::<serde_json::Map<_, _>>()
    };
    let mut weight_map = place(&first, "a.safetensors");
    weight_map.extend(place(&second, "b.safetensors"));
    write(&folder.join("a.safetensors"), &first);
    write(&folder.join("b.safetensors"), &second);
    std::fs::remove_file(folder.join(WEIGHTS)).unwrap();
    std::fs::write(folder.join(INDEX), json!({"weight_map": weight_map}).to_string()).unwrap();
    (parent, folder)
}

#[test]
fn shards_are_one_model() {
    let (_parent, folder) = sharded();
    assert_eq!(load_decoder(&folder).unwrap().parameters(), model().decoder.parameters());
    for name in ["qwen2-sharded", "llama-bf16", "mistral", "qwen3"] {
        let decoder = load_decoder(&fixture("parity").join(name)).unwrap();
        assert_eq!(decoder.parameters().len(), decoder.config().parameter_count());
    }
}

#[test]
fn a_wrong_index_is_refused() {
    let place = |file: &'static str| {
        let (parent, folder) = sharded();
        edit(&folder.join(INDEX), |index| index["weight_map"][NORM] = file.into());
        (parent, folder)
    };
    let (_parent, folder) = place("absent.safetensors");
    assert_names(load_decoder(&folder), &[INDEX, NORM, "absent.safetensors"]);
    for outside in ["../M0/b.safetensors", "/etc/passwd", "..", ""] {
        let (_parent, folder) = place(outside);
        assert_names(load_decoder(&folder), &[INDEX, NORM, "not the name of a file in this folder"]);
    }
    let (_parent, folder) = place("a.safetensors");
    assert_names(load_decoder(&folder), &["a.safetensors", NORM, INDEX]);
    let (_parent, folder) = sharded();
    std::fs::write(folder.join(INDEX), "{}").unwrap();
    assert_names(load_decoder(&folder), &[INDEX, "weight_map"]);
    std::fs::write(folder.join(INDEX), "[").unwrap();
    assert_names(load_decoder(&folder), &[INDEX, "JSON"]);
}

#[test]
fn wrong_tensors_are_named() {
    let (_parent, folder) = changed(|tensors| drop(tensors.remove(NORM)));
    assert_names(load_decoder(&folder), &[WEIGHTS, NORM, "missing"]);
    let (_parent, folder) = changed(|tensors| tensors.get_mut(NORM).unwrap().1 = vec![4, 8]);
    assert_names(load_decoder(&folder), &[WEIGHTS, NORM, "expected shape [32]", "found [4, 8]"]);
    let (_parent, folder) = changed(|tensors| {
        tensors.insert("model.extra.weight".to_owned(), (Dtype::F32, vec![1], vec![0; 4]));
    });
    assert_names(load_decoder(&folder), &[WEIGHTS, "model.extra.weight", "unexpected"]);
    let (_parent, folder) = changed(|tensors| tensors.get_mut(NORM).unwrap().0 = Dtype::I32);
    assert_names(load_decoder(&folder), &[WEIGHTS, NORM, "I32", "BF16"]);
    for value in [f32::NAN, f32::INFINITY] {
        let (_parent, folder) = changed(|tensors| {
            tensors.get_mut(NORM).unwrap().2[8..12].copy_from_slice(&value.to_le_bytes());
        });
        assert_names(load_decoder(&folder), &[WEIGHTS, NORM, "not finite"]);
    }
    let (_parent, folder) = saved();
    edit(&folder.join("config.json"), |config| config["tie_word_embeddings"] = false.into());
    assert_names(load_decoder(&folder), &[WEIGHTS, "lm_head.weight", "tie_word_embeddings"]);
}

#[test]
fn leftovers_of_other_writers_are_tolerated() {
    let (_parent, folder) = changed(|tensors| {
        tensors.insert(
            "model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(),
            (Dtype::F32, vec![1], vec![0; 4]),
        );
        let embedding = tensors["model.embed_tokens.weight"].clone();
        tensors.insert("lm_head.weight".to_owned(), embedding);
    });
    assert_eq!(load_decoder(&folder).unwrap().parameters(), model().decoder.parameters());
    let (_parent, folder) = changed(|tensors| {
        let embedding = tensors.remove("model.embed_tokens.weight").unwrap();
        tensors.insert("lm_head.weight".to_owned(), embedding);
    });
    assert_eq!(load_decoder(&folder).unwrap().parameters(), model().decoder.parameters());
}

#[test]
fn damaged_files_are_refused() {
    let (_parent, folder) = saved();
    let whole = std::fs::read(folder.join(WEIGHTS)).unwrap();
    for length in [0, 4, 100, whole.len() - 1] {
        std::fs::write(folder.join(WEIGHTS), &whole[..length]).unwrap();
        assert_names(load_decoder(&folder), &[WEIGHTS, "truncated"]);
    }
    std::fs::write(folder.join(WEIGHTS), vec![0xFF; 1000]).unwrap();
    assert_names(load_decoder(&folder), &[WEIGHTS, "not a safetensors file"]);
    std::fs::remove_file(folder.join(WEIGHTS)).unwrap();
    assert_names(load_decoder(&folder), &[WEIGHTS, "cannot open"]);
}
