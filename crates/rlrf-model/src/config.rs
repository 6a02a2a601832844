//! `config.json` of a Hugging Face model folder.

/// The decoder families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family { /// Llama 1, 2, 3
    Llama, /// Mistral
    Mistral, /// Qwen2: attention bias
    Qwen2, /// Qwen3: q/k norm
    Qwen3 }

/// What the decoder needs to know, validated.
#[derive(Debug, Clone)]
pub struct ModelConfig {
    /// Family, from `architectures`/`model_type`.
    pub family: Family,
    /// `vocab_size`.
    pub vocab_size: usize,
    /// `hidden_size`.
    pub hidden_size: usize,
    /// `intermediate_size`.
    pub intermediate_size: usize,
    /// `num_hidden_layers`.
    pub num_hidden_layers: usize,
    /// `num_attention_heads`.
    pub num_attention_heads: usize,
    /// `num_key_value_heads`.
    pub num_key_value_heads: usize,
    /// `head_dim`, or hidden_size / heads.
    pub head_dim: usize,
    /// `rms_norm_eps`.
    pub rms_norm_eps: f32,
    /// `max_position_embeddings`.
    pub max_position_embeddings: usize,
    /// `tie_word_embeddings`.
    pub tie_word_embeddings: bool,
    /// Bias on q, k, v.
    pub attention_bias: bool,
    /// RMSNorm on each head of q and k.
    pub qk_norm: bool,
    /// Mistral's sliding window, if any.
    pub sliding_window: Option<usize>,
    /// `initializer_range`.
    pub initializer_range: f32,
    // rope (theta, scaling: none | linear | llama3 ...), bias of o_proj/mlp if the families need it, and
    // the whole original JSON object so that writing it back loses nothing.
}
