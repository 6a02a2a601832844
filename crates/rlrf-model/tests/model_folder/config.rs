//! `config.json`: defaults, what is refused, rotary frequencies.

use std::path::Path;

use rlrf_model::{Family, ModelConfig, Result, RopeScaling};
use serde_json::{Value, json};

use crate::assert_names;

fn parse(value: Value) -> Result<ModelConfig> {
    ModelConfig::from_json(value.as_object().unwrap().clone(), Path::new("config.json"))
}

/// A configuration with the five required sizes, changed by `fields`; null takes a field away.
fn with(architecture: &str, fields: Value) -> Value {
    let mut object = json!({
        "architectures": [architecture], "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 8,
    });
    for (name, value) in fields.as_object().unwrap() {
        object[name] = value.clone();
    }
    object
}

#[test]
fn defaults_are_those_of_transformers() {
    let llama =
        parse(with("LlamaForCausalLM", json!({"num_key_value_heads": null, "head_dim": null}))).unwrap();
    assert_eq!((llama.family, llama.num_key_value_heads, llama.head_dim), (Family::Llama, 4, 8));
    assert_eq!((llama.max_position_embeddings, llama.rms_norm_eps, llama.rope_theta), (2048, 1e-6, 10_000.0));
    assert!(!llama.tie_word_embeddings && !llama.attention_bias && !llama.o_proj_bias && !llama.mlp_bias);
    assert_eq!((llama.initializer_range, llama.sliding_window, llama.qk_norm), (0.02, None, false));

    let mistral = parse(with("MistralForCausalLM", json!({"attention_bias": true}))).unwrap();
    assert_eq!((mistral.sliding_window, mistral.max_position_embeddings), (Some(4096), 131_072));
    assert!(!mistral.attention_bias);

    let qwen2 = parse(with("Qwen2ForCausalLM", json!({"sliding_window": 16}))).unwrap();
    assert!(qwen2.attention_bias && !qwen2.o_proj_bias && !qwen2.mlp_bias);
    assert_eq!((qwen2.sliding_window, qwen2.max_position_embeddings), (None, 32_768));

    let mut qwen3 = with("Qwen3ForCausalLM", json!({}));
    qwen3.as_object_mut().unwrap().remove("head_dim");
    let qwen3 = parse(qwen3).unwrap();
    assert_eq!((qwen3.head_dim, qwen3.qk_norm, qwen3.attention_bias), (128, true, false));

    let mut heads = with("MistralForCausalLM", json!({"num_attention_heads": 16, "sliding_window": null}));
    heads.as_object_mut().unwrap().remove("num_key_value_heads");
    let heads = parse(heads).unwrap();
    assert_eq!((heads.num_key_value_heads, heads.sliding_window), (8, None));
}

#[test]
fn biases_and_windows_follow_the_family() {
    let llama = parse(with("LlamaForCausalLM", json!({"attention_bias": true, "mlp_bias": true}))).unwrap();
    assert!(llama.attention_bias && llama.o_proj_bias && llama.mlp_bias);
    let qwen3 = parse(with("Qwen3ForCausalLM", json!({"attention_bias": true, "mlp_bias": true}))).unwrap();
    assert!(qwen3.attention_bias && qwen3.o_proj_bias && !qwen3.mlp_bias);
    let mistral = parse(with("MistralForCausalLM", json!({"sliding_window": 8}))).unwrap();
    assert_eq!(mistral.sliding_window, Some(8));
    let full = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0,
                      "layer_types": ["full_attention", "full_attention"]});
    assert_eq!(parse(with("Qwen2ForCausalLM", full)).unwrap().sliding_window, None);
    let beyond = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 2});
    assert_eq!(parse(with("Qwen2ForCausalLM", beyond)).unwrap().sliding_window, None);
}

#[test]
fn an_unusable_configuration_names_its_field() {
    let cases = [
        (
            json!({"architectures": ["GPT2LMHeadModel"]}),
            vec!["architectures", "GPT2LMHeadModel", "Qwen3ForCausalLM"],
        ),
        (json!({"architectures": "LlamaForCausalLM"}), vec!["architectures", "a list of names"]),
        (json!({"architectures": null}), vec!["model_type", "missing", "LlamaForCausalLM"]),
        (json!({"architectures": null, "model_type": "bert"}), vec!["model_type", "bert"]),
        (json!({"vocab_size": null}), vec!["`vocab_size`", "missing"]),
        (json!({"hidden_size": "32"}), vec!["`hidden_size`", "\"32\""]),
        (json!({"hidden_size": -1}), vec!["`hidden_size`", "-1"]),
        (json!({"intermediate_size": 0}), vec!["`intermediate_size`", "positive"]),
        (json!({"num_hidden_layers": 1.5}), vec!["`num_hidden_layers`", "1.5"]),
        (json!({"num_hidden_layers": 20_000}), vec!["`num_hidden_layers`", "20000"]),
        (json!({"hidden_size": 2_000_000_000, "intermediate_size": 2_000_000_000}), vec!["matrix", "sizes"]),
        (json!({"num_key_value_heads": 3}), vec!["`num_key_value_heads`", "3 does not divide", "4"]),
        (
            json!({"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": null}),
            vec!["`num_attention_heads`"],
        ),
        (json!({"head_dim": 7}), vec!["`head_dim`", "odd"]),
        (json!({"hidden_act": "gelu"}), vec!["`hidden_act`", "gelu", "silu"]),
        (json!({"rms_norm_eps": -1e-5}), vec!["`rms_norm_eps`", "positive"]),
        (json!({"tie_word_embeddings": "yes"}), vec!["`tie_word_embeddings`", "true or false"]),
        (json!({"quantization_config": {"bits": 4}}), vec!["`quantization_config`", "bf16"]),
        (json!({"partial_rotary_factor": 0.5}), vec!["`partial_rotary_factor`"]),
        (json!({"rope_scaling": {"rope_type": "yarn"}}), vec!["`rope_scaling.rope_type`", "yarn", "llama3"]),
        (json!({"rope_scaling": {"type": "dynamic", "factor": 2}}), vec!["`rope_scaling.type`", "dynamic"]),
        (json!({"rope_parameters": {"rope_type": "linear"}}), vec!["`rope_parameters.factor`", "missing"]),
        (json!({"rope_scaling": 3}), vec!["`rope_scaling`", "an object"]),
        (json!({"layer_types": ["full_attention", "sliding_attention"]}), vec!["`layer_types`"]),
    ];
    for (fields, mut parts) in cases {
        parts.push("config.json");
        assert_names(parse(with("LlamaForCausalLM", fields)), &parts);
    }
    let window = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 1});
    assert_names(parse(with("Qwen2ForCausalLM", window)), &["config.json", "`use_sliding_window`"]);
}

#[test]
fn rotary_base_is_found_where_either_transformers_writes_it() {
    for fields in [
        json!({"rope_theta": 5000}),
        json!({"rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}),
        json!({"rope_theta": 1.0, "rope_parameters": {"rope_theta": 5000.0, "rope_type": "default"}}),
        json!({"rope_scaling": {"rope_theta": 5000.0, "type": "default"}}),
    ] {
        let config = parse(with("LlamaForCausalLM", fields)).unwrap();
        assert_eq!((config.rope_theta, config.rope_scaling), (5000.0, RopeScaling::Default));
        // Written back, the base stands where transformers 4 looks.
        assert_eq!(config.to_json()["rope_theta"], 5000.0);
        let again = parse(Value::Object(config.to_json())).unwrap();
        assert_eq!((again.rope_theta, again.to_json()), (5000.0, config.to_json()));
    }
}

#[test]
fn llama3_keeps_short_wavelengths_stretches_long_ones_and_interpolates() {
    let scaling = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                         "original_max_position_embeddings": 8192});
    let fields = json!({"head_dim": 128, "rope_theta": 500_000.0, "rope_scaling": scaling});
    let scaled = parse(with("LlamaForCausalLM", fields)).unwrap();
    let plain = parse(with("LlamaForCausalLM", json!({"head_dim": 128, "rope_theta": 500_000.0}))).unwrap();
    let (scaled_frequencies, plain_frequencies) = (scaled.inverse_frequencies(), plain.inverse_frequencies());
    assert_eq!((scaled_frequencies.len(), scaled_frequencies[0], scaled.attention_factor()), (64, 1.0, 1.0));
    let mut between = 0;
    for (&scaled, &plain) in scaled_frequencies.iter().zip(&plain_frequencies) {
        let wavelength = 2.0 * std::f64::consts::PI / f64::from(plain);
        let expected = if wavelength > 8192.0 {
            f64::from(plain) / 8.0
        } else if wavelength < 2048.0 {
            f64::from(plain)
        } else {
            between += 1;
            let smooth = (8192.0 / wavelength - 1.0) / 3.0;
            f64::from(plain) * ((1.0 - smooth) / 8.0 + smooth)
        };
        assert!((f64::from(scaled) / expected - 1.0).abs() < 1e-6, "{scaled} {expected}");
    }
    assert!(between > 3);
    assert_eq!(parse(Value::Object(scaled.to_json())).unwrap().rope_scaling, scaled.rope_scaling);
}

#[test]
fn linear_scaling_divides_every_frequency() {
    let plain = parse(with("LlamaForCausalLM", json!({}))).unwrap().inverse_frequencies();
    let fields = json!({"rope_scaling": {"type": "linear", "factor": 4.0}});
    let scaled = parse(with("LlamaForCausalLM", fields)).unwrap().inverse_frequencies();
    assert_eq!(scaled, plain.iter().map(|frequency| frequency / 4.0).collect::<Vec<_>>());
    // 10000^(-2i/8)
    for (frequency, expected) in plain.iter().zip([1.0, 0.1, 0.01, 0.001]) {
        assert!((frequency / expected - 1.0).abs() < 1e-6);
    }
}

#[test]
fn unknown_fields_survive_and_sizes_are_reported() {
    let config =
        parse(with("LlamaForCausalLM", json!({"my_field": [1, 2], "torch_dtype": "bfloat16"}))).unwrap();
    let written = config.to_json();
    assert_eq!((&written["my_field"], &written["torch_dtype"]), (&json!([1, 2]), &json!("float32")));
    assert_eq!(config.parameter_bytes(), 4 * config.parameter_count());
    assert_eq!(config.training_bytes(), 16 * config.parameter_count());
    assert_eq!(config.cache_bytes_per_token(), 4 * 2 * 2 * 4 * 8);
    let larger = config.clone().with_vocab_size(65);
    assert_eq!(larger.parameter_count() - config.parameter_count(), 2 * 32);
    assert_eq!(larger.to_json()["vocab_size"], 65);
}
