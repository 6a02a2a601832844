"""Logits, loss and gradients of transformers for every decoder family, as fixtures of `rlrf-model`."""

import json

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from models import empty_folder, gradients, randomize

BATCH, TIME = 2, 24
VOCABULARY = 96

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}

# At theta 50 the four rotary frequencies of head_dim 8 have wavelengths of 6.3, 16.7, 44 and 118 positions: under 32 / 4 = 8
# one is kept, between 8 and 32 / 1 = 32 it is blended, above it is divided. All three occur.
LLAMA3_SCALING = {
    "rope_type": "llama3",
    "rope_theta": 50.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def legacy_rope(config):
    """The `config.json` that transformers 4 wrote and that most published models still have."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else {"type": rope.pop("rope_type"), **rope}
    config["torch_dtype"] = config.pop("dtype")
    if config.get("head_dim") == config["hidden_size"] // config["num_attention_heads"]:
        del config["head_dim"]


def unused_window(config):
    """Published Qwen2 models name a window and switch it off."""
    config.pop("layer_types", None)
    config.update(use_sliding_window=False, sliding_window=8, max_window_layers=0)


CASES = {
    "llama-tied": {"config": LlamaConfig(**SHAPE, tie_word_embeddings=True)},
    "llama-untied": {
        "config": LlamaConfig(
            **{**SHAPE, "num_attention_heads": 4, "num_key_value_heads": 1, "intermediate_size": 24},
            head_dim=12,
            attention_bias=True,
            mlp_bias=True,
            rms_norm_eps=1e-2,
            rope_parameters={"rope_type": "default", "rope_theta": 500.0},
        ),
        "rewrite": [legacy_rope],
    },
    "llama3-scaled": {"config": LlamaConfig(**SHAPE, tie_word_embeddings=True, rope_parameters=LLAMA3_SCALING)},
    "llama-linear-rope": {
        "config": LlamaConfig(
            **SHAPE,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0},
        ),
        "rewrite": [legacy_rope],
    },
    "mistral": {"config": MistralConfig(**SHAPE, tie_word_embeddings=True, sliding_window=8)},
    "mistral-nowindow": {"config": MistralConfig(**SHAPE, tie_word_embeddings=True, sliding_window=None)},
    "qwen2": {"config": Qwen2Config(**SHAPE, tie_word_embeddings=True)},
    "qwen2-sharded": {
        "config": Qwen2Config(**SHAPE, rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}),
        "rewrite": [legacy_rope, unused_window],
        "shard": "20KB",
    },
    "qwen3": {"config": Qwen3Config(**SHAPE, head_dim=12, tie_word_embeddings=True)},
    "llama-bf16": {"config": LlamaConfig(**SHAPE, tie_word_embeddings=True), "dtype": torch.bfloat16},
}


def rewrite_config(folder, rewrites):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for rewrite in rewrites:
        rewrite(config)
    path.write_text(json.dumps(config, indent=2) + "\n")


def expected(model, input_ids, gradients_of=gradients):
    """Logits, mean next-token cross-entropy over all `BATCH * (TIME - 1)` positions, and its gradients."""
    model.zero_grad()
    logits = model(input_ids=input_ids).logits
    loss = F.cross_entropy(logits[:, :-1].reshape(-1, VOCABULARY), input_ids[:, 1:].reshape(-1))
    loss.backward()
    return {
        "input_ids": input_ids,
        "logits": logits.detach().float().contiguous(),
        "loss": loss.detach().float().reshape(1),
        **gradients_of(model),
    }


def load(folder, dtype):
    # From the folder alone, so that what is expected is what the files say.
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="eager").eval()


def make_case(folder, case, seed):
    folder = empty_folder(folder)
    model = AutoModelForCausalLM.from_config(case["config"], attn_implementation="eager", dtype=torch.float32)
    randomize(model, seed)
    dtype = case.get("dtype", torch.float32)
    model.to(dtype).save_pretrained(folder, max_shard_size=case.get("shard", "1GB"))
    (folder / "generation_config.json").unlink(missing_ok=True)
    rewrite_config(folder, case.get("rewrite", []))

    generator = torch.Generator().manual_seed(seed + 1)
    input_ids = torch.randint(0, VOCABULARY, (BATCH, TIME), generator=generator)
    single, double = (expected(load(folder, dtype), input_ids) for dtype in (torch.float32, torch.float64))
    save_file(single, folder / "expected.safetensors")

    with torch.no_grad():
        written = model.float()(input_ids=input_ids).logits
    error = {name: ((single[name] - double[name]).abs().max() / single[name].abs().max()).item() for name in single}
    worst = max(error, key=error.get)
    print(
        f"{folder.name}: loss {single['loss'].item():.4f}, largest logit {single['logits'].abs().max():.2f}, "
        f"largest difference from the model before writing {(written - single['logits']).abs().max():.1e}, "
        f"float32 off float64 by {error[worst]:.1e} of the largest element ({worst})"
    )


def make(folder):
    """Writes one folder per case."""
    for index, (name, case) in enumerate(CASES.items()):
        make_case(folder / name, case, seed=100 * (index + 1))
