//! Adapters: PEFT computes the same, their gradients are the slope, and merging changes nothing.

use std::path::{Path, PathBuf};

use crate::gradients::{batch, slope_is_gradient};
use crate::parity::Expected;
use crate::support::{FAMILIES, Loss, config, decoder, noise, relative_error};
use rlrf_model::weights::load_decoder;
use rlrf_model::{Activations, Adapter, Computation, Decoder, Layout, LoraConfig, Precision};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn lora(target_modules: &[&str]) -> LoraConfig {
    LoraConfig {
        rank: 3,
        alpha: 6.0,
        target_modules: target_modules.iter().map(|name| name.to_string()).collect(),
    }
}

/// A decoder with adapters that do something.
fn adapted(architecture: &str, tied: bool, config: LoraConfig) -> Decoder {
    let mut decoder = decoder(architecture, tied);
    let mut adapter = Adapter::new(config, decoder.layout(), 1).unwrap();
    for (parameter, noise) in adapter.parameters_mut().iter_mut().zip(noise(5)) {
        *parameter += 0.05 * noise;
    }
    decoder.attach(adapter);
    decoder
}

#[test]
fn logits_loss_and_gradients_are_those_of_peft() {
    let folder = fixture("lora");
    let mut decoder = load_decoder(&fixture("parity/llama-untied")).unwrap();
    decoder.attach(Adapter::load(&folder, decoder.layout()).unwrap());
    Expected::read(&folder).check(&decoder);
}

#[test]
fn fresh_adapters_change_nothing() {
    let (batch, loss) = batch();
    for (architecture, tied) in FAMILIES {
        let mut decoder = decoder(architecture, tied);
        let (expected, _) = loss.run(&decoder, &batch, &mut Activations::default());
        decoder.attach(Adapter::new(LoraConfig::default(), decoder.layout(), 1).unwrap());
        let (found, gradients) = loss.run(&decoder, &batch, &mut Activations::default());
        assert_eq!(found, expected, "{architecture}, tied {tied}");
        for entry in decoder.trainable_entries() {
            // Where B is zero, A has no gradient yet.
            let nonzero = gradients[entry.range.clone()].iter().any(|&gradient| gradient != 0.0);
            assert_eq!(nonzero, entry.name.ends_with("lora_B.weight"), "{architecture}: {}", entry.name);
        }
    }
}

#[test]
fn gradients_are_the_slope_of_the_loss() {
    for (architecture, tied) in FAMILIES {
        slope_is_gradient(adapted(architecture, tied, LoraConfig::default()), architecture);
    }
    slope_is_gradient(adapted("LlamaForCausalLM", true, lora(&["v_proj", "gate_proj"])), "two modules");
}

#[test]
fn a_merged_model_computes_the_same() {
    let (batch, loss) = batch();
    for (architecture, tied) in FAMILIES {
        let mut decoder = adapted(architecture, tied, LoraConfig::default());
        let untouched = decoder.parameters().to_vec();
        let (expected, _) = loss.run(&decoder, &batch, &mut Activations::default());
        let adapter = decoder.merge().unwrap();
        assert!(decoder.merge().is_none() && decoder.parameters() != untouched);
        let (found, _) = loss.run(&decoder, &batch, &mut Activations::default());
        assert!(relative_error(&found, &expected) < 1e-5, "{architecture}, tied {tied}");
        assert_eq!(adapter.config(), &LoraConfig::default());
    }
}

#[test]
fn recompute_and_bf16_hold_for_adapters() {
    let (batch, loss) = batch();
    let run = |decoder: &Decoder, loss: &Loss, precision, recompute| {
        loss.run(decoder, &batch, &mut Activations::new(Computation { precision, recompute }))
    };
    for (architecture, tied) in FAMILIES {
        let decoder = adapted(architecture, tied, LoraConfig::default());
        let whole = run(&decoder, &loss, Precision::F32, false);
        assert_eq!(run(&decoder, &loss, Precision::F32, true), whole, "{architecture}, tied {tied}");
        let rounded = run(&decoder, &loss, Precision::Bf16, false);
        assert!(relative_error(&rounded.0, &whole.0) < 0.01, "{architecture}, tied {tied}");
        let error = relative_error(&rounded.1, &whole.1);
        assert!(error < 0.04, "{architecture}, tied {tied}: relative error {error:.1e}");
    }
}

#[test]
fn an_adapter_reads_back_as_it_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(&config("Qwen3ForCausalLM", true));
    let adapter = Adapter::new(lora(&["up_proj", "q_proj"]), &layout, 9).unwrap();
    adapter.save(folder.path(), Path::new("base")).unwrap();
    let read = Adapter::load(folder.path(), &layout).unwrap();
    assert_eq!(read.parameters(), adapter.parameters());
    let names =
        |adapter: &Adapter| adapter.entries().iter().map(|entry| entry.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&read), names(&adapter));
}

#[test]
fn what_cannot_be_adapted_is_refused_by_name() {
    let layout = Layout::new(&config("LlamaForCausalLM", true));
    let message = |config| Adapter::new(config, &layout, 0).unwrap_err().to_string();
    assert!(
        message(lora(&["q_proj", "lm_head"])).contains("target_modules names \"lm_head\"; there are q_proj,")
    );
    assert!(message(lora(&[])).contains("target_modules is empty"));
    assert!(message(lora(&["q_proj", "q_proj"])).contains("twice"));
    assert!(message(LoraConfig { rank: 0, ..LoraConfig::default() }).contains("lora.rank is 0"));
    assert!(message(LoraConfig { alpha: f64::NAN, ..LoraConfig::default() }).contains("lora.alpha"));

    let folder = tempfile::tempdir().unwrap();
    let write = |field: &str, value: serde_json::Value| {
        let bytes = std::fs::read(fixture("lora/adapter_config.json")).unwrap();
        let mut object: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        object[field] = value;
        std::fs::write(folder.path().join("adapter_config.json"), object.to_string()).unwrap();
        Adapter::load(folder.path(), &layout).unwrap_err().to_string()
    };
    for (field, value) in [
        ("peft_type", "IA3".into()),
        ("use_dora", true.into()),
        ("bias", "all".into()),
        ("r", "three".into()),
        ("modules_to_save", serde_json::json!(["lm_head"])),
        ("rank_pattern", serde_json::json!({"q_proj": 8})),
    ] {
        let message = write(field, value);
        assert!(message.contains("adapter_config.json") && message.contains(field), "{message}");
    }
}
