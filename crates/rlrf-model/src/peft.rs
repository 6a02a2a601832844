//! Adapters on disk in PEFT's layout: `adapter_config.json` and `adapter_model.safetensors`.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::fields::read_json_object;
use crate::folder::{write_file, write_json};
use crate::weights::{read_tensors, write_tensors};
use crate::{Adapter, Error, Layout, LoraConfig, Result};

/// Names an adapter's folder.
pub(crate) const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the name of every tensor.
const PREFIX: &str = "base_model.model.";

impl Adapter {
    /// Writes the adapters into an existing folder, for `peft.PeftModel.from_pretrained`; `base` is the folder of the
    /// model that they belong to.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn save(&self, folder: &Path, base: &Path) -> Result<()> {
        let config = json!({
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": base.to_string_lossy(),
            "r": self.config().rank,
            "lora_alpha": self.config().alpha,
            "target_modules": self.config().target_modules,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": false,
            "use_rslora": false,
            "use_dora": false,
            "inference_mode": true,
        });
        let Value::Object(config) = config else { return Ok(()) };
        write_json(&folder.join(ADAPTER_CONFIG), config)?;
        let tensors = self.entries().iter().map(|entry| {
            let values = &self.parameters()[entry.range.clone()];
            (format!("{PREFIX}{}", entry.name), entry.shape.as_slice(), values)
        });
        write_tensors(&folder.join(ADAPTER_WEIGHTS), tensors)?;
        write_file(
            &folder.join("README.md"),
            b"---\nlibrary_name: peft\ntags:\n- lora\n---\nA LoRA adapter.\n",
        )
    }

    /// Reads a folder that PEFT or [`Adapter::save`] wrote, for a model of this layout.
    ///
    /// # Errors
    /// Names the file, and the field or tensor: what is not plain LoRA on the projections of a layer is refused.
    pub fn load(folder: &Path, layout: &Layout) -> Result<Self> {
        let file = folder.join(ADAPTER_CONFIG);
        let object = read_json_object(&file)?;
        let mut adapter = Self::zero(lora_config(&file, &object)?, layout)?;
        let names: Vec<_> = adapter
            .entries()
            .iter()
            .map(|entry| (format!("{PREFIX}{}", entry.name), entry.shape.clone(), entry.range.clone()))
            .collect();
        read_tensors(&folder.join(ADAPTER_WEIGHTS), &names, adapter.parameters_mut())?;
        Ok(adapter)
    }
}

/// The folder of the model that an adapter belongs to: as `adapter_config.json` names it, seen from the adapter's
/// folder or from here.
pub(crate) fn base_of(folder: &Path) -> Result<PathBuf> {
    let file = folder.join(ADAPTER_CONFIG);
    let object = read_json_object(&file)?;
    let Some(base) =
        object.get("base_model_name_or_path").and_then(Value::as_str).filter(|base| !base.is_empty())
    else {
        return Err(Error::field(&file, "base_model_name_or_path", "missing: name the base model's folder"));
    };
    let places = [folder.join(base), PathBuf::from(base)];
    places.iter().find(|place| place.join("config.json").is_file()).cloned().ok_or_else(|| {
        let problem = format!("there is no model folder `{base}`; put the base model there, or name it here");
        Error::field(&file, "base_model_name_or_path", problem)
    })
}

fn lora_config(file: &Path, object: &Map<String, Value>) -> Result<LoraConfig> {
    let field = |name: &str, problem: &str| Error::field(file, name, problem.to_owned());
    if object.get("peft_type").and_then(Value::as_str) != Some("LORA") {
        return Err(field("peft_type", "is not LORA: other adapters are not supported"));
    }
    for name in ["use_rslora", "use_dora", "use_qalora", "fan_in_fan_out"] {
        if object.get(name).and_then(Value::as_bool) == Some(true) {
            return Err(field(name, "is true, which is not supported"));
        }
    }
    if !matches!(object.get("bias").and_then(Value::as_str), None | Some("none")) {
        return Err(field("bias", "is not `none`, which is not supported"));
    }
    for name in [
        "layers_to_transform",
        "layer_replication",
        "modules_to_save",
        "trainable_token_indices",
        "alora_invocation_tokens",
        "target_parameters",
    ] {
        if object.get(name).is_some_and(|value| !value.is_null()) {
            return Err(field(name, "is set, which is not supported"));
        }
    }
    if let Some(Value::String(method)) = object.get("init_lora_weights")
        && !["gaussian", "orthogonal", "eva"].contains(&method.as_str())
    {
        return Err(field("init_lora_weights", "changes the base model, which is not supported"));
    }
    for name in ["rank_pattern", "alpha_pattern"] {
        if object.get(name).and_then(Value::as_object).is_some_and(|pattern| !pattern.is_empty()) {
            return Err(field(name, "differs by module, which is not supported"));
        }
    }
    let rank =
        object.get("r").and_then(Value::as_u64).ok_or_else(|| field("r", "missing, or not a number"))?;
    let alpha = object.get("lora_alpha").and_then(Value::as_f64);
    let alpha = alpha.ok_or_else(|| field("lora_alpha", "missing, or not a number"))?;
    let modules = object.get("target_modules").and_then(Value::as_array);
    let modules: Option<Vec<String>> =
        modules.and_then(|modules| modules.iter().map(|module| Some(module.as_str()?.to_owned())).collect());
    let mut target_modules =
        modules.ok_or_else(|| field("target_modules", "missing, or not a list of names"))?;
    // PEFT writes a set, in any order.
    target_modules.sort();
    let config = LoraConfig { rank: usize::try_from(rank).unwrap_or(usize::MAX), alpha, target_modules };
    config.validate().map_err(|error| Error::file(file, error.to_string()))?;
    Ok(config)
}
