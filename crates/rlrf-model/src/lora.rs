//! Low-rank adapters (Hu et al., 2021): every adapted projection computes `y = x W^T + scale (x A^T) B^T`, and only
//! `A: [rank, in]` and `B: [out, rank]` are trained.

use std::ops::Range;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rlrf_kernels::matmul::{Operands, linear_backward_weight};
use serde::{Deserialize, Serialize};

use crate::parameters::{Entries, LayerPlaces, LinearPlace};
use crate::{Error, Layout, ParameterEntry, Result};

/// The projections of a layer, by the names that PEFT selects them with, and where they stand.
const MODULES: [(&str, &str); 7] = [
    ("q_proj", "self_attn.q_proj"),
    ("k_proj", "self_attn.k_proj"),
    ("v_proj", "self_attn.v_proj"),
    ("o_proj", "self_attn.o_proj"),
    ("gate_proj", "mlp.gate_proj"),
    ("up_proj", "mlp.up_proj"),
    ("down_proj", "mlp.down_proj"),
];

/// Which projections are adapted, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the adapters; PEFT's `r`. Default 16.
    pub rank: usize,
    /// The product of the two matrices is multiplied by `alpha / rank`; PEFT's `lora_alpha`. Default 32.
    pub alpha: f64,
    /// Names of the adapted projections. Default: all seven of a layer.
    pub target_modules: Vec<String>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        let target_modules = MODULES.map(|(name, _)| name.to_owned()).to_vec();
        Self { rank: 16, alpha: 32.0, target_modules }
    }
}

impl LoraConfig {
    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Lora`] names the first field that is out of range, or the module that there is not.
    pub fn validate(&self) -> Result<()> {
        let refuse = |field, problem: String| Err(Error::Lora { field, problem });
        if self.rank == 0 {
            return refuse("rank", "is 0; must be at least 1, 8 to 64 is usual".into());
        }
        if !(self.alpha > 0.0 && self.alpha.is_finite()) {
            return refuse("alpha", format!("is {}; must be above 0, twice the rank is usual", self.alpha));
        }
        if self.target_modules.is_empty() {
            return refuse("target_modules", "is empty: nothing would be trained".into());
        }
        for (index, module) in self.target_modules.iter().enumerate() {
            if !MODULES.iter().any(|(name, _)| name == module) {
                let names = MODULES.map(|(name, _)| name).join(", ");
                return refuse("target_modules", format!("names {module:?}; there are {names}"));
            }
            if self.target_modules[..index].contains(module) {
                return refuse("target_modules", format!("names {module:?} twice"));
            }
        }
        Ok(())
    }

    /// What the product of the two matrices is multiplied by.
    pub fn scale(&self) -> f32 {
        (self.alpha / self.rank as f64) as f32
    }
}

/// The place of one projection's two matrices in the flat vector of an adapter.
#[derive(Debug, Clone)]
pub(crate) struct LoraPlace {
    /// `A: [rank, in]`.
    pub(crate) a: Range<usize>,
    /// `B: [out, rank]`.
    pub(crate) b: Range<usize>,
}

/// The places of one layer's adapters; none for projections that are not adapted.
#[derive(Debug, Clone, Default)]
pub(crate) struct LoraLayer {
    places: [Option<LoraPlace>; 7],
}

impl LoraLayer {
    /// Of the projection `name`, such as `q_proj`.
    pub(crate) fn place(&self, name: &str) -> Option<&LoraPlace> {
        let index = MODULES.iter().position(|(module, _)| *module == name)?;
        self.places[index].as_ref()
    }
}

/// The adapters of a model: all matrices in one flat vector, as the parameters of the model are.
#[derive(Debug, Clone)]
pub struct Adapter {
    config: LoraConfig,
    entries: Vec<ParameterEntry>,
    layers: Vec<LoraLayer>,
    parameters: Vec<f32>,
}

impl Adapter {
    /// Adapters that change nothing yet: `A` uniform as PEFT draws it, `B` zero.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub fn new(config: LoraConfig, layout: &Layout, seed: u64) -> Result<Self> {
        let mut adapter = Self::zero(config, layout)?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        for entry in adapter.entries.iter().filter(|entry| entry.name.ends_with("lora_A.weight")) {
            // Kaiming's uniform distribution with a = sqrt(5).
            let bound = 1.0 / (entry.shape[1] as f32).sqrt();
            adapter.parameters[entry.range.clone()].fill_with(|| bound * random.random_range(-1.0f32..1.0));
        }
        Ok(adapter)
    }

    /// Adapters whose matrices are zero.
    ///
    /// # Errors
    /// The configuration is not valid.
    pub(crate) fn zero(config: LoraConfig, layout: &Layout) -> Result<Self> {
        config.validate()?;
        let mut entries = Entries::default();
        let mut layers = Vec::with_capacity(layout.layers.len());
        for (index, places) in layout.layers.iter().enumerate() {
            let mut layer = LoraLayer::default();
            for ((slot, (name, path)), place) in layer.places.iter_mut().zip(MODULES).zip(linears(places)) {
                if config.target_modules.iter().any(|module| module == name) {
                    let tensor = |part| format!("model.layers.{index}.{path}.lora_{part}.weight");
                    let a = entries.matrix(tensor("A"), config.rank, place.inputs);
                    let b = entries.matrix(tensor("B"), place.outputs, config.rank);
                    *slot = Some(LoraPlace { a, b });
                }
            }
            layers.push(layer);
        }
        let entries = entries.into_list();
        let len = entries.last().map_or(0, |entry| entry.range.end);
        Ok(Self { config, entries, layers, parameters: vec![0.0; len] })
    }

    /// The configuration.
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// Every matrix, in order of its place; names are those of the model with `lora_A` or `lora_B`.
    pub fn entries(&self) -> &[ParameterEntry] {
        &self.entries
    }

    /// The flat vector.
    pub fn parameters(&self) -> &[f32] {
        &self.parameters
    }

    /// The flat vector, to be updated by an optimizer.
    pub fn parameters_mut(&mut self) -> &mut [f32] {
        &mut self.parameters
    }

    /// Whether it was made for a model of this layout.
    pub(crate) fn fits(&self, layout: &Layout) -> bool {
        Self::zero(self.config.clone(), layout).is_ok_and(|same| same.entries == self.entries)
    }

    /// The places of a layer's adapters.
    pub(crate) fn layer(&self, index: usize) -> &LoraLayer {
        &self.layers[index]
    }

    /// Adds every product of the two matrices to its projection in the flat `parameters` of the model.
    pub(crate) fn merge_into(&self, layout: &Layout, parameters: &mut [f32]) {
        let (rank, scale) = (self.config.rank, self.config.scale());
        for (layer, places) in self.layers.iter().zip(&layout.layers) {
            for (place, linear) in layer.places.iter().zip(linears(places)) {
                let Some(place) = place else { continue };
                // W[o, i] += sum_r scale B[o, r] A[r, i]: the shape of a weight's gradient over `rank` rows.
                let (inputs, outputs) = (linear.inputs, linear.outputs);
                let mut b = vec![0.0; rank * outputs];
                for (output, row) in self.parameters[place.b.clone()].chunks_exact(rank).enumerate() {
                    for (r, value) in row.iter().enumerate() {
                        b[r * outputs + output] = scale * value;
                    }
                }
                let (weight, _) = linear.of_mut(parameters);
                let a = &self.parameters[place.a.clone()];
                linear_backward_weight(Operands::F32, &b, a, weight, None, rank, inputs, outputs);
            }
        }
    }
}

/// A layer's projections in the order of [`MODULES`].
fn linears(places: &LayerPlaces) -> [&LinearPlace; 7] {
    let LayerPlaces { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, .. } = places;
    [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj]
}
