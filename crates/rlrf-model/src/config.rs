//! `config.json` of a Hugging Face model folder, read with the defaults of transformers' configuration classes
//! and written back so that transformers 4 and 5 both load it.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::fields::{Fields, read_json_object};
use crate::{Error, Layout, Result};

/// The decoder families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Llama 1, 2, 3 and what shares their shape (SmolLM, TinyLlama).
    Llama,
    /// Mistral: one sliding window for all layers, if any.
    Mistral,
    /// Qwen2 and Qwen2.5: bias on q, k and v.
    Qwen2,
    /// Qwen3: RMSNorm on each head of q and k.
    Qwen3,
}

impl Family {
    const ALL: [Self; 4] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3];

    /// The name in `architectures` of a model with this head.
    pub fn architecture(self, head: Head) -> &'static str {
        match (self, head) {
            (Self::Llama, Head::Language) => "LlamaForCausalLM",
            (Self::Mistral, Head::Language) => "MistralForCausalLM",
            (Self::Qwen2, Head::Language) => "Qwen2ForCausalLM",
            (Self::Qwen3, Head::Language) => "Qwen3ForCausalLM",
            (Self::Llama, Head::Score) => "LlamaForSequenceClassification",
            (Self::Mistral, Head::Score) => "MistralForSequenceClassification",
            (Self::Qwen2, Head::Score) => "Qwen2ForSequenceClassification",
            (Self::Qwen3, Head::Score) => "Qwen3ForSequenceClassification",
        }
    }

    /// The name in `model_type`.
    pub fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// What stands on the final hidden states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// A logit for every token of the vocabulary: the model writes.
    Language,
    /// One number, without bias: a reward model, which scores what others wrote. In transformers a sequence classifier
    /// of one label.
    Score,
}

/// How rotary frequencies are stretched beyond the context of pre-training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Frequencies as they are.
    Default,
    /// All frequencies divided by `factor`.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, those between interpolated.
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Wavelengths above `original_max_position_embeddings / low_freq_factor` are long.
        low_freq_factor: f64,
        /// Wavelengths below `original_max_position_embeddings / high_freq_factor` are short.
        high_freq_factor: f64,
        /// The context of pre-training.
        original_max_position_embeddings: f64,
    },
}

/// What the decoder needs to know, validated.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Family, from `architectures`, else `model_type`.
    pub family: Family,
    /// The head, from `architectures`, else a language model's.
    pub head: Head,
    /// `vocab_size`.
    pub vocab_size: usize,
    /// `hidden_size`.
    pub hidden_size: usize,
    /// `intermediate_size`.
    pub intermediate_size: usize,
    /// `num_hidden_layers`.
    pub num_hidden_layers: usize,
    /// `num_attention_heads`, a multiple of `num_key_value_heads`.
    pub num_attention_heads: usize,
    /// `num_key_value_heads`.
    pub num_key_value_heads: usize,
    /// `head_dim`, or hidden_size / heads; even.
    pub head_dim: usize,
    /// `rms_norm_eps`.
    pub rms_norm_eps: f32,
    /// `max_position_embeddings`.
    pub max_position_embeddings: usize,
    /// `tie_word_embeddings`.
    pub tie_word_embeddings: bool,
    /// Bias on q, k, v.
    pub attention_bias: bool,
    /// Bias on the attention's output projection.
    pub o_proj_bias: bool,
    /// Bias on gate, up and down.
    pub mlp_bias: bool,
    /// RMSNorm on each head of q and k.
    pub qk_norm: bool,
    /// Mistral's sliding window: a row sees itself and the `window - 1` rows before it.
    pub sliding_window: Option<usize>,
    /// `initializer_range`.
    pub initializer_range: f32,
    /// Base of the rotary wavelengths.
    pub rope_theta: f64,
    /// Scaling of the rotary wavelengths.
    pub rope_scaling: RopeScaling,
    /// The whole original object, so that writing it back loses nothing.
    original: Map<String, Value>,
}

impl ModelConfig {
    /// Reads `config.json` of a model folder.
    ///
    /// # Errors
    /// The file is absent, not a JSON object, or describes a model that [`ModelConfig::from_json`] refuses.
    pub fn load(folder: &Path) -> Result<Self> {
        let file = folder.join("config.json");
        Self::from_json(read_json_object(&file)?, &file)
    }

    /// Validates a configuration object; `file` is named in errors. The five sizes that no class default can
    /// stand for (`vocab_size`, `hidden_size`, `intermediate_size`, `num_hidden_layers`, `num_attention_heads`) are
    /// required, all else has the default of the family's transformers class.
    ///
    /// # Errors
    /// An unknown architecture, a missing field, a field of the wrong type, sizes that do not fit together, or a
    /// feature that this decoder lacks; the message names the field and what is supported.
    pub fn from_json(original: Map<String, Value>, file: &Path) -> Result<Self> {
        let fields = Fields { object: &original, file, prefix: "" };
        let (family, head) = family(&fields)?;
        refuse_unsupported(&fields)?;
        if head == Head::Score {
            refuse_labels(&fields)?;
        }
        let hidden_size = fields.required_size("hidden_size")?;
        let num_hidden_layers = fields.required_size("num_hidden_layers")?;
        let num_attention_heads = fields.required_size("num_attention_heads")?;
        let num_key_value_heads = key_value_heads(&fields, family, num_attention_heads)?;
        let head_dim = head_dim(&fields, family, hidden_size, num_attention_heads)?;
        let (rope_theta, rope_scaling) = rope(&fields)?;
        let optional_bias = match family {
            Family::Llama | Family::Qwen3 => fields.boolean("attention_bias")?.unwrap_or(false),
            Family::Mistral | Family::Qwen2 => false,
        };
        let config = Self {
            family,
            head,
            vocab_size: fields.required_size("vocab_size")?,
            hidden_size,
            intermediate_size: fields.required_size("intermediate_size")?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim,
            rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            max_position_embeddings: fields.size("max_position_embeddings")?.unwrap_or(match family {
                Family::Llama => 2048,
                Family::Mistral => 131_072,
                Family::Qwen2 | Family::Qwen3 => 32_768,
            }),
            tie_word_embeddings: fields.boolean("tie_word_embeddings")?.unwrap_or(false),
            attention_bias: family == Family::Qwen2 || optional_bias,
            o_proj_bias: optional_bias,
            mlp_bias: family == Family::Llama && fields.boolean("mlp_bias")?.unwrap_or(false),
            qk_norm: family == Family::Qwen3,
            sliding_window: sliding_window(&fields, family, num_hidden_layers)?,
            initializer_range: fields.positive("initializer_range")?.unwrap_or(0.02) as f32,
            rope_theta,
            rope_scaling,
            original: Map::new(),
        };
        refuse_overflow(&config, &fields)?;
        Ok(Self { original, ..config })
    }

    /// The same model with another vocabulary size.
    pub fn with_vocab_size(mut self, vocab_size: usize) -> Self {
        self.vocab_size = vocab_size;
        self.original.insert("vocab_size".into(), vocab_size.into());
        self
    }

    /// The same decoder with another head.
    pub(crate) fn with_head(self, head: Head) -> Self {
        Self { head, ..self }
    }

    /// The name in `architectures`.
    pub fn architecture(&self) -> &'static str {
        self.family.architecture(self.head)
    }

    /// A field of the original object that the decoder itself has no use for, such as `eos_token_id`.
    pub(crate) fn original(&self, field: &str) -> Option<&Value> {
        self.original.get(field)
    }

    /// Sets such a field.
    pub(crate) fn set_original(&mut self, field: &str, value: Value) {
        self.original.insert(field.into(), value);
    }

    /// The object to write: the original with `architectures`, `model_type`, the type of the weights (f32), and the
    /// rotary base and scaling where transformers 4 looks for them (5 reads both places).
    pub fn to_json(&self) -> Map<String, Value> {
        let mut object = self.original.clone();
        object.insert("architectures".into(), json!([self.architecture()]));
        object.insert("model_type".into(), self.family.model_type().into());
        object.insert("torch_dtype".into(), "float32".into());
        object.insert("dtype".into(), "float32".into());
        object.insert("rope_theta".into(), self.rope_theta.into());
        let scaling = match self.rope_scaling {
            RopeScaling::Default => Value::Null,
            RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
            RopeScaling::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings,
            } => json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_max_position_embeddings as u64,
            }),
        };
        object.insert("rope_scaling".into(), scaling);
        if self.head == Head::Score {
            object.insert("num_labels".into(), 1.into());
            object.insert("id2label".into(), json!({"0": "LABEL_0"}));
            object.insert("label2id".into(), json!({"LABEL_0": 0}));
        }
        object
    }

    /// Rotary frequency of each pair of dimensions, `[head_dim / 2]`, scaled as transformers'
    /// `modeling_rope_utils` does, in f32 as there.
    pub fn inverse_frequencies(&self) -> Vec<f32> {
        let base = f64::from(self.rope_theta as f32);
        (0..self.head_dim / 2)
            .map(|pair| {
                let exponent = (2 * pair) as f32 / self.head_dim as f32;
                self.rope_scaling.apply(1.0 / base.powf(f64::from(exponent)) as f32)
            })
            .collect()
    }

    /// What the rotation's cosines and sines are multiplied by: 1 for every supported scaling.
    pub fn attention_factor(&self) -> f32 {
        1.0
    }

    /// Number of parameters.
    pub fn parameter_count(&self) -> usize {
        Layout::new(self).len()
    }

    /// Bytes of the parameters in f32.
    pub fn parameter_bytes(&self) -> usize {
        4 * self.parameter_count()
    }

    /// Bytes that training keeps for the parameters: weights, gradients and both AdamW moments, in f32. Activations
    /// come on top.
    pub fn training_bytes(&self) -> usize {
        4 * self.parameter_bytes()
    }

    /// Bytes of keys and values that one token of context takes in all layers, in f32; beside weights in bf16 or 8 bits, half as many.
    pub fn cache_bytes_per_token(&self) -> usize {
        4 * 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim
    }
}

impl RopeScaling {
    /// Source: transformers, `_compute_linear_scaling_rope_parameters` and `_compute_llama3_parameters`.
    fn apply(self, frequency: f32) -> f32 {
        match self {
            Self::Default => frequency,
            Self::Linear { factor } => frequency / factor as f32,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: context,
            } => {
                let wavelength = (2.0 * std::f64::consts::PI) as f32 / frequency;
                if wavelength > (context / low_freq_factor) as f32 {
                    frequency / factor as f32
                } else if wavelength < (context / high_freq_factor) as f32 {
                    frequency
                } else {
                    let smooth = (context as f32 / wavelength - low_freq_factor as f32)
                        / (high_freq_factor - low_freq_factor) as f32;
                    (1.0 - smooth) * frequency / factor as f32 + smooth * frequency
                }
            }
        }
    }
}

fn family(fields: &Fields<'_>) -> Result<(Family, Head)> {
    let known = [Head::Language, Head::Score].map(|head| Family::ALL.map(|family| (family, head))).concat();
    let names: Vec<&str> = known.iter().map(|(family, head)| family.architecture(*head)).collect();
    let supported = names.join(", ");
    let (field, found) = match fields.get("architectures") {
        Some(Value::Array(names)) if !names.is_empty() => ("architectures", names[0].as_str()),
        None | Some(Value::Array(_)) => ("model_type", fields.string("model_type")?),
        Some(_) => return Err(fields.wrong_type("architectures", "a list of names")),
    };
    let Some(found) = found else {
        return Err(
            fields.error(field, format!("missing: cannot tell the architecture; supported: {supported}"))
        );
    };
    known
        .into_iter()
        .find(|(family, head)| {
            found == if field == "architectures" { family.architecture(*head) } else { family.model_type() }
        })
        .ok_or_else(|| fields.error(field, format!("`{found}` is not supported; supported: {supported}")))
}

/// A classifier of several labels gives no order. transformers has two labels where a configuration names none.
fn refuse_labels(fields: &Fields<'_>) -> Result<()> {
    let (field, labels) = match fields.get("id2label") {
        Some(Value::Object(labels)) => ("id2label", labels.len()),
        Some(_) => return Err(fields.wrong_type("id2label", "an object of label names")),
        None => ("num_labels", fields.count("num_labels")?.unwrap_or(2)),
    };
    if labels != 1 {
        let problem =
            format!("the model tells {labels} labels apart; a reward model has one: num_labels = 1");
        return Err(fields.error(field, problem));
    }
    Ok(())
}

fn refuse_unsupported(fields: &Fields<'_>) -> Result<()> {
    if let Some(activation) = fields.string("hidden_act")?.filter(|&activation| activation != "silu") {
        return Err(fields.error("hidden_act", format!("`{activation}` is not supported; supported: silu")));
    }
    if fields.get("quantization_config").is_some() {
        let problem = "quantised weights are not supported; use the f32, bf16 or f16 version of the model";
        return Err(fields.error("quantization_config", problem));
    }
    if fields.positive("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
        return Err(fields
            .error("partial_rotary_factor", "rotating a part of the head is not supported; supported: 1.0"));
    }
    Ok(())
}

/// Refuses sizes whose parameter count could not be computed, let alone held: a garbled file, not a model.
fn refuse_overflow(config: &ModelConfig, fields: &Fields<'_>) -> Result<()> {
    if config.num_hidden_layers > 10_000 {
        let problem = format!("{} layers; at most 10000 are supported", config.num_hidden_layers);
        return Err(fields.error("num_hidden_layers", problem));
    }
    let rows = (config.num_attention_heads * config.head_dim + config.intermediate_size) as u128;
    let largest = rows.max(config.vocab_size as u128) * config.hidden_size as u128;
    if largest >= 1 << 40 {
        return Err(Error::file(
            fields.file,
            format!("describes a matrix of {largest} values; are the sizes right?"),
        ));
    }
    Ok(())
}

fn key_value_heads(fields: &Fields<'_>, family: Family, heads: usize) -> Result<usize> {
    // transformers: absent means the class default, null means as many as query heads.
    let absent = !fields.object.contains_key("num_key_value_heads");
    let default = match family {
        Family::Mistral if absent => 8,
        Family::Qwen2 | Family::Qwen3 if absent => 32,
        _ => heads,
    };
    let key_value_heads = fields.size("num_key_value_heads")?.unwrap_or(default);
    if !heads.is_multiple_of(key_value_heads) {
        let problem = format!("{key_value_heads} does not divide num_attention_heads = {heads}");
        return Err(fields.error("num_key_value_heads", problem));
    }
    Ok(key_value_heads)
}

fn head_dim(fields: &Fields<'_>, family: Family, hidden_size: usize, heads: usize) -> Result<usize> {
    let absent = !fields.object.contains_key("head_dim");
    let head_dim = match fields.size("head_dim")? {
        Some(head_dim) => head_dim,
        None if family == Family::Qwen3 && absent => 128,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            let problem =
                format!("{heads} does not divide hidden_size = {hidden_size}, and there is no head_dim");
            return Err(fields.error("num_attention_heads", problem));
        }
    };
    if !head_dim.is_multiple_of(2) {
        let problem = format!("{head_dim} is odd; rotary position embeddings need pairs of dimensions");
        return Err(fields.error("head_dim", problem));
    }
    Ok(head_dim)
}

/// Base and scaling: `rope_scaling` before `rope_parameters`, a base inside before the one at the top, as transformers 5
/// resolves them.
fn rope(fields: &Fields<'_>) -> Result<(f64, RopeScaling)> {
    let top = fields.positive("rope_theta")?;
    let Some(rope) = fields.object_field("rope_scaling")?.or(fields.object_field("rope_parameters")?) else {
        return Ok((top.unwrap_or(10_000.0), RopeScaling::Default));
    };
    let theta = rope.positive("rope_theta")?.or(top).unwrap_or(10_000.0);
    // `type` is the name of older files.
    let field = if rope.get("rope_type").is_some() { "rope_type" } else { "type" };
    let scaling = match rope.string(field)?.unwrap_or("default") {
        "default" => RopeScaling::Default,
        "linear" => RopeScaling::Linear { factor: rope.required_positive("factor")? },
        "llama3" => {
            let (low, high) =
                (rope.required_positive("low_freq_factor")?, rope.required_positive("high_freq_factor")?);
            if high <= low {
                return Err(
                    rope.error("high_freq_factor", format!("{high} must exceed low_freq_factor = {low}"))
                );
            }
            let context = match fields.size("original_max_position_embeddings")? {
                Some(context) => context,
                None => rope.required_size("original_max_position_embeddings")?,
            };
            RopeScaling::Llama3 {
                factor: rope.required_positive("factor")?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: context as f64,
            }
        }
        other => {
            let problem = format!("`{other}` is not supported; supported: default, linear, llama3");
            return Err(rope.error(field, problem));
        }
    };
    if rope.positive("partial_rotary_factor")?.is_some_and(|factor| factor != 1.0) {
        return Err(rope
            .error("partial_rotary_factor", "rotating a part of the head is not supported; supported: 1.0"));
    }
    Ok((theta, scaling))
}

/// The window that all layers share, if the family's configuration really uses one.
fn sliding_window(fields: &Fields<'_>, family: Family, layers: usize) -> Result<Option<usize>> {
    let window = fields.size("sliding_window")?;
    let window = if fields.object.contains_key("sliding_window") { window } else { Some(4096) };
    if let Some(types) = fields.get("layer_types") {
        let types = types.as_array().ok_or_else(|| fields.wrong_type("layer_types", "a list of names"))?;
        if types.iter().all(|name| name == "full_attention") {
            return Ok(None);
        }
        if family != Family::Mistral || !types.iter().all(|name| name == "sliding_attention") {
            let problem =
                "layers of several attention types are not supported; supported: all `full_attention`";
            return Err(fields.error("layer_types", problem));
        }
    }
    match family {
        Family::Llama => Ok(None),
        Family::Mistral => Ok(window),
        Family::Qwen2 | Family::Qwen3 => {
            // transformers gives the window to the layers from `max_window_layers` on.
            let first = fields.count("max_window_layers")?.unwrap_or(28);
            if fields.boolean("use_sliding_window")?.unwrap_or(false) && window.is_some() && first < layers {
                let problem = "a sliding window in Qwen models is not supported; set it to false to attend to everything";
                return Err(fields.error("use_sliding_window", problem));
            }
            Ok(None)
        }
    }
}
