//! All parameters of a model in one flat vector, with a layout that names its parts.
//!
//! Gradients, AdamW moments and checkpoints are vectors of the same length under the same layout.

use std::ops::Range;

use crate::{Head, ModelConfig};

/// One named tensor in the flat vector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterEntry {
    /// The Hugging Face name, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Its shape, `[out, in]` for weights.
    pub shape: Vec<usize>,
    /// Its place in the flat vector.
    pub range: Range<usize>,
    /// Whether weight decay applies (matrices yes; norms and biases no).
    pub decay: bool,
}

/// Where every tensor of a model lies.
#[derive(Debug, Clone)]
pub struct Layout {
    entries: Vec<ParameterEntry>,
    pub(crate) embed_tokens: Range<usize>,
    pub(crate) layers: Vec<LayerPlaces>,
    pub(crate) norm: Range<usize>,
    /// The head: `[vocab, hidden]`, the place of `embed_tokens` where the embeddings are tied; of a reward model
    /// `[1, hidden]`.
    pub(crate) head: Range<usize>,
}

/// The places of one layer's tensors.
#[derive(Debug, Clone)]
pub(crate) struct LayerPlaces {
    pub(crate) input_layernorm: Range<usize>,
    pub(crate) q_proj: LinearPlace,
    pub(crate) k_proj: LinearPlace,
    pub(crate) v_proj: LinearPlace,
    pub(crate) o_proj: LinearPlace,
    pub(crate) q_norm: Option<Range<usize>>,
    pub(crate) k_norm: Option<Range<usize>>,
    pub(crate) post_attention_layernorm: Range<usize>,
    pub(crate) gate_proj: LinearPlace,
    pub(crate) up_proj: LinearPlace,
    pub(crate) down_proj: LinearPlace,
}

/// The place of a projection: its weight, and right behind it its bias if it has one.
#[derive(Debug, Clone)]
pub(crate) struct LinearPlace {
    range: Range<usize>,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    bias: bool,
}

impl LinearPlace {
    /// Weight and bias in a flat vector.
    pub(crate) fn of<'a>(&self, flat: &'a [f32]) -> (&'a [f32], Option<&'a [f32]>) {
        let (weight, bias) = flat[self.range.clone()].split_at(self.inputs * self.outputs);
        (weight, self.bias.then_some(bias))
    }

    /// Weight and bias in a flat vector, to be written.
    pub(crate) fn of_mut<'a>(&self, flat: &'a mut [f32]) -> (&'a mut [f32], Option<&'a mut [f32]>) {
        let (weight, bias) = flat[self.range.clone()].split_at_mut(self.inputs * self.outputs);
        (weight, self.bias.then_some(bias))
    }
}

impl Layout {
    /// The layout of a model of this configuration.
    pub fn new(config: &ModelConfig) -> Self {
        let mut entries = Entries::default();
        let (hidden, vocab) = (config.hidden_size, config.vocab_size);
        let embed_tokens = entries.matrix("model.embed_tokens.weight".to_owned(), vocab, hidden);
        let layers = (0..config.num_hidden_layers).map(|index| entries.layer(config, index)).collect();
        let norm = entries.vector("model.norm.weight".to_owned(), hidden);
        let head = match config.head {
            Head::Score => entries.matrix("score.weight".to_owned(), 1, hidden),
            Head::Language if config.tie_word_embeddings => embed_tokens.clone(),
            Head::Language => entries.matrix("lm_head.weight".to_owned(), vocab, hidden),
        };
        Self { entries: entries.into_list(), embed_tokens, layers, norm, head }
    }

    /// Every tensor, in order of its place.
    pub fn entries(&self) -> &[ParameterEntry] {
        &self.entries
    }

    /// The tensor of a Hugging Face name.
    pub fn entry(&self, name: &str) -> Option<&ParameterEntry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    /// Length of the flat vector.
    pub fn len(&self) -> usize {
        self.entries.last().map_or(0, |entry| entry.range.end)
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The tensors placed so far, each right behind the one before.
#[derive(Default)]
pub(crate) struct Entries(Vec<ParameterEntry>);

impl Entries {
    pub(crate) fn into_list(self) -> Vec<ParameterEntry> {
        self.0
    }

    fn place(&mut self, name: String, shape: Vec<usize>) -> Range<usize> {
        let start = self.0.last().map_or(0, |entry| entry.range.end);
        let range = start..start + shape.iter().product::<usize>();
        self.0.push(ParameterEntry { name, decay: shape.len() > 1, shape, range: range.clone() });
        range
    }

    pub(crate) fn matrix(&mut self, name: String, outputs: usize, inputs: usize) -> Range<usize> {
        self.place(name, vec![outputs, inputs])
    }

    fn vector(&mut self, name: String, len: usize) -> Range<usize> {
        self.place(name, vec![len])
    }

    fn linear(&mut self, name: String, outputs: usize, inputs: usize, bias: bool) -> LinearPlace {
        let mut range = self.matrix(format!("{name}.weight"), outputs, inputs);
        if bias {
            range.end = self.vector(format!("{name}.bias"), outputs).end;
        }
        LinearPlace { range, inputs, outputs, bias }
    }

    fn layer(&mut self, config: &ModelConfig, index: usize) -> LayerPlaces {
        let (hidden, intermediate) = (config.hidden_size, config.intermediate_size);
        let query = config.num_attention_heads * config.head_dim;
        let key_value = config.num_key_value_heads * config.head_dim;
        let (qkv_bias, o_bias, mlp_bias) = (config.attention_bias, config.o_proj_bias, config.mlp_bias);
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let head_norm = |entries: &mut Self, part: &str| {
            config.qk_norm.then(|| entries.vector(name(part), config.head_dim))
        };
        LayerPlaces {
            input_layernorm: self.vector(name("input_layernorm.weight"), hidden),
            q_proj: self.linear(name("self_attn.q_proj"), query, hidden, qkv_bias),
            k_proj: self.linear(name("self_attn.k_proj"), key_value, hidden, qkv_bias),
            v_proj: self.linear(name("self_attn.v_proj"), key_value, hidden, qkv_bias),
            o_proj: self.linear(name("self_attn.o_proj"), hidden, query, o_bias),
            q_norm: head_norm(self, "self_attn.q_norm.weight"),
            k_norm: head_norm(self, "self_attn.k_norm.weight"),
            post_attention_layernorm: self.vector(name("post_attention_layernorm.weight"), hidden),
            gate_proj: self.linear(name("mlp.gate_proj"), intermediate, hidden, mlp_bias),
            up_proj: self.linear(name("mlp.up_proj"), intermediate, hidden, mlp_bias),
            down_proj: self.linear(name("mlp.down_proj"), hidden, intermediate, mlp_bias),
        }
    }
}
