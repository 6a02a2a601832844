//! Writes a small model of every family, and beside it what rlrf computes from it, for `tools/parity/check_written.py`.
//!
//! `OUT/CASE/model` is the folder, `OUT/CASE/expected.safetensors` holds `input_ids`, `logits` and `chat_ids`; of a reward model
//! `lengths` and `scores` in place of `logits`.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rlrf_model::preset::SPECIAL_TOKENS;
use rlrf_model::{Activations, Batch, ChatMessage, Model, ModelConfig, Tokenizer};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Map, Value, json};

const SEQUENCES: usize = 2;
const TOKENS: usize = 24;
/// Of each sequence, how many tokens a reward model is to score.
const LENGTHS: [u32; SEQUENCES] = [24, 15];

/// The conversation of `check_written.py`.
const CONVERSATION: [ChatMessage<'static>; 4] = [
    ChatMessage { role: "system", content: "Answer in one word." },
    ChatMessage { role: "user", content: "What is 2 + 2?\nThink first." },
    ChatMessage { role: "assistant", content: "Four." },
    ChatMessage { role: "user", content: "And café × 3?" },
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(std::env::args_os().nth(1).ok_or("usage: write_model OUT")?);
    let tokenizer = tokenizer()?;
    for (seed, (name, fields)) in families().into_iter().enumerate() {
        let config = ModelConfig::from_json(with_shape(fields, tokenizer.vocab_size()), Path::new(name))?;
        let mut model = Model::new_random(config, tokenizer.clone(), seed as u64)?;
        // Norms of one and biases of zero would hide that one of them was not written.
        let mut random = ChaCha8Rng::seed_from_u64(seed as u64);
        model.decoder.parameters_mut().iter_mut().for_each(|value| *value += random.random_range(-0.2..0.2));
        write(&model, &out.join(name), Some(&CONVERSATION))?;
        write(&model.into_reward(seed as u64)?, &out.join(format!("{name}-reward")), Some(&CONVERSATION))?;
    }
    // A folder that others wrote, read and written again; it has no chat template.
    let stories = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/stories260K");
    write(&Model::load(&stories)?, &out.join("stories260K"), None)
}

fn families() -> Vec<(&'static str, Value)> {
    let llama3 = json!({
        "rope_type": "llama3", "rope_theta": 50.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    });
    let bias = json!({
        "model_type": "llama", "attention_bias": true, "mlp_bias": true, "head_dim": 12, "rms_norm_eps": 1e-2,
        "rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 4.0},
    });
    vec![
        ("llama-tied", json!({"model_type": "llama", "tie_word_embeddings": true})),
        ("llama-bias-linear", bias),
        ("llama3-scaled", json!({"model_type": "llama", "rope_parameters": llama3})),
        ("mistral", json!({"model_type": "mistral", "sliding_window": 8})),
        ("qwen2", json!({"model_type": "qwen2", "use_sliding_window": false, "sliding_window": 8})),
        ("qwen3", json!({"model_type": "qwen3", "head_dim": 12, "tie_word_embeddings": true})),
    ]
}

/// `fields` with the sizes that all families share.
fn with_shape(fields: Value, vocab_size: usize) -> Map<String, Value> {
    let shape = json!({
        "vocab_size": vocab_size, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2,
    });
    [shape, fields].into_iter().filter_map(|part| part.as_object().cloned()).flatten().collect()
}

fn tokenizer() -> rlrf_model::Result<Tokenizer> {
    let texts = ["Answer in one word.", "What is 2 + 2?", "Think first, then answer.", "a naïve café"];
    Tokenizer::train_bpe(texts.iter().cycle().take(40).map(ToString::to_string), 300, &SPECIAL_TOKENS)
}

fn write(
    model: &Model,
    folder: &Path,
    conversation: Option<&[ChatMessage<'_>]>,
) -> Result<(), Box<dyn Error>> {
    model.save(&folder.join("model"))?;
    let vocab_size = model.decoder.config().vocab_size;
    let tokens: Vec<u32> =
        (0..SEQUENCES * TOKENS).map(|index| (index * index * 7 % vocab_size) as u32).collect();
    let mut batch = Batch::default();
    for sequence in tokens.chunks(TOKENS) {
        batch.push_sequence(sequence);
    }
    let mut activations = Activations::default();
    model.decoder.forward(&batch, &mut activations)?;
    let rows: Vec<usize> = (0..batch.len()).collect();
    let input_ids = token_bytes(&tokens);
    let chat_ids = match conversation {
        Some(messages) => token_bytes(&model.chat.prompt(&model.tokenizer, messages)?),
        None => Vec::new(),
    };
    let lengths = token_bytes(&LENGTHS);
    let computed: Vec<u8> = match model.is_reward() {
        true => {
            let last = |(sequence, length): (usize, &u32)| sequence * TOKENS + *length as usize - 1;
            let last: Vec<usize> = LENGTHS.iter().enumerate().map(last).collect();
            let scores = model.decoder.scores(&activations, &last);
            scores.iter().flat_map(|score| (*score as f32).to_le_bytes()).collect()
        }
        false => {
            let logits = model.decoder.logits(&activations, &rows);
            logits.iter().flat_map(|logit| logit.to_le_bytes()).collect()
        }
    };
    let mut tensors =
        BTreeMap::from([("input_ids", TensorView::new(Dtype::I64, vec![SEQUENCES, TOKENS], &input_ids)?)]);
    if model.is_reward() {
        tensors.insert("lengths", TensorView::new(Dtype::I64, vec![SEQUENCES], &lengths)?);
        tensors.insert("scores", TensorView::new(Dtype::F32, vec![SEQUENCES], &computed)?);
    } else {
        let shape = vec![SEQUENCES, TOKENS, vocab_size];
        tensors.insert("logits", TensorView::new(Dtype::F32, shape, &computed)?);
    }
    if conversation.is_some() {
        tensors.insert("chat_ids", TensorView::new(Dtype::I64, vec![chat_ids.len() / 8], &chat_ids)?);
    }
    safetensors::serialize_to_file(tensors, None, &folder.join("expected.safetensors"))?;
    println!("{}", folder.join("model").display());
    Ok(())
}

/// Token ids as int64, which is what torch indexes with.
fn token_bytes(tokens: &[u32]) -> Vec<u8> {
    tokens.iter().flat_map(|&token| i64::from(token).to_le_bytes()).collect()
}
