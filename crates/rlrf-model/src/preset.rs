//! Named shapes for models that start from random parameters.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, json};

use crate::{Decoder, Error, Model, ModelConfig, Result, Tokenizer};

/// Special tokens of a new model's tokenizer, in the order of their ids.
pub const SPECIAL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];

/// The chat template of a new model.
const CHAT_TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// A named shape of the Llama family, with tied embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preset {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is good for.
    pub purpose: &'static str,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: usize,
    max_position_embeddings: usize,
}

impl Preset {
    /// All presets, smallest first.
    pub const ALL: [Self; 4] = [
        Self {
            name: "tiny",
            purpose: "some ten thousand parameters: tests, and trying the tool out",
            hidden_size: 32,
            intermediate_size: 96,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            max_position_embeddings: 512,
        },
        Self {
            name: "small-2m",
            purpose: "about 2 million parameters with 1024 tokens: learns simple patterns in minutes",
            hidden_size: 192,
            intermediate_size: 576,
            num_hidden_layers: 3,
            num_attention_heads: 6,
            num_key_value_heads: 6,
            max_position_embeddings: 1024,
        },
        Self {
            name: "word-4m",
            purpose: "about 4 million parameters with 1024 tokens: learns word problems on two cores",
            hidden_size: 320,
            intermediate_size: 960,
            num_hidden_layers: 3,
            num_attention_heads: 8,
            num_key_value_heads: 8,
            max_position_embeddings: 1024,
        },
        Self {
            name: "smollm-135m",
            purpose: "the shape of SmolLM-135M (with 49152 tokens): for long training on many cores",
            hidden_size: 576,
            intermediate_size: 1536,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: 3,
            max_position_embeddings: 1024,
        },
    ];

    /// The preset of that name.
    ///
    /// # Errors
    /// There is none; the message lists those there are.
    pub fn by_name(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|preset| preset.name == name).ok_or_else(|| {
            let names = Self::ALL.map(|preset| preset.name).join(", ");
            Error::Preset { name: name.to_owned(), known: names }
        })
    }

    /// The configuration of this shape with a vocabulary of that size.
    ///
    /// # Errors
    /// A vocabulary size of 0 or beyond 2^31.
    pub fn config(&self, vocab_size: usize) -> Result<ModelConfig> {
        let fields = [
            ("architectures", json!(["LlamaForCausalLM"])),
            ("model_type", json!("llama")),
            ("vocab_size", json!(vocab_size)),
            ("hidden_size", json!(self.hidden_size)),
            ("intermediate_size", json!(self.intermediate_size)),
            ("num_hidden_layers", json!(self.num_hidden_layers)),
            ("num_attention_heads", json!(self.num_attention_heads)),
            ("num_key_value_heads", json!(self.num_key_value_heads)),
            ("head_dim", json!(self.hidden_size / self.num_attention_heads)),
            ("hidden_act", json!("silu")),
            ("max_position_embeddings", json!(self.max_position_embeddings)),
            ("initializer_range", json!(0.02)),
            ("rms_norm_eps", json!(1e-5)),
            ("rope_theta", json!(10000.0)),
            ("tie_word_embeddings", json!(true)),
            ("attention_bias", json!(false)),
            ("mlp_bias", json!(false)),
        ];
        let fields = fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        ModelConfig::from_json(fields, Path::new(self.name))
    }
}

impl Model {
    /// A model with random parameters and a ChatML template; the configuration's vocabulary must hold the tokenizer's.
    ///
    /// # Errors
    /// The tokenizer lacks one of [`SPECIAL_TOKENS`], or has more tokens than the configuration.
    pub fn new_random(mut config: ModelConfig, tokenizer: Tokenizer, seed: u64) -> Result<Self> {
        let mut ids = [0; 3];
        for (id, token) in ids.iter_mut().zip(SPECIAL_TOKENS) {
            *id = tokenizer.id(token).ok_or_else(|| {
                Error::Tokenizer(format!("lacks `{token}`, which the chat template of a new model needs"))
            })?;
        }
        let [end_of_text, _, end_of_turn] = ids;
        for (name, id) in [("bos", end_of_text), ("eos", end_of_turn), ("pad", end_of_text)] {
            config.set_original(&format!("{name}_token_id"), id.into());
        }
        let tokenizer_config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": SPECIAL_TOKENS[0],
            "eos_token": SPECIAL_TOKENS[2],
            "pad_token": SPECIAL_TOKENS[0],
            "add_bos_token": false,
            "clean_up_tokenization_spaces": false,
            "model_max_length": config.max_position_embeddings,
            "chat_template": CHAT_TEMPLATE,
        });
        let files = BTreeMap::from([(
            "tokenizer_config.json".to_owned(),
            format!("{tokenizer_config:#}\n").into_bytes(),
        )]);
        let generation_config =
            Map::from_iter([("eos_token_id".to_owned(), json!([end_of_turn, end_of_text]))]);
        Self::assemble(
            Decoder::random(config, seed)?,
            tokenizer,
            generation_config,
            files,
            Path::new("new model"),
        )
    }
}
