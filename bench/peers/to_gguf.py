"""Turns a folder of make_model.py into GGUF (llama architecture) with the `gguf` package.

    python to_gguf.py --model smollm-135m --out smollm-135m-bf16.gguf --type bf16
"""

import argparse
import json
import os

import gguf
import numpy
from safetensors import safe_open

TYPES = {
    "f32": (gguf.LlamaFileType.ALL_F32, gguf.GGMLQuantizationType.F32),
    "bf16": (gguf.LlamaFileType.MOSTLY_BF16, gguf.GGMLQuantizationType.BF16),
    "q8_0": (gguf.LlamaFileType.MOSTLY_Q8_0, gguf.GGMLQuantizationType.Q8_0),
}
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_shape(writer, config, file_type):
    theta = config.get("rope_theta") or (config.get("rope_parameters") or {}).get("rope_theta", 10000.0)
    writer.add_name("random")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(theta)
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type(file_type)


def write_tokenizer(writer, config, tokenizer):
    tokens = {id: token for token, id in tokenizer["model"]["vocab"].items()}
    special = {token["id"]: token["content"] for token in tokenizer["added_tokens"]}
    tokens.update(special)
    ids = range(config["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([tokens.get(id, f"<|unused_{id}|>") for id in ids])
    writer.add_token_types([gguf.TokenType.CONTROL if id in special else gguf.TokenType.NORMAL for id in ids])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])


def interleave(weight, heads):
    """Rotary halves -> interleaved pairs, as llama.cpp's llama architecture wants q and k."""
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def write_weights(writer, config, weights, quantization):
    heads = {"q_proj": config["num_attention_heads"], "k_proj": config["num_key_value_heads"]}
    for name in weights.keys():
        weight = weights.get_tensor(name)
        if name == "model.embed_tokens.weight":
            name = "token_embd.weight"
        elif name == "model.norm.weight":
            name = "output_norm.weight"
        elif name.startswith("model.layers."):
            _, _, layer, part = name.split(".", 3)
            part = part.removesuffix(".weight")
            name = f"blk.{layer}.{NAMES[part]}.weight"
            projection = part.rpartition(".")[2]
            if projection in heads:
                weight = interleave(weight, heads[projection])
        elif name == "lm_head.weight":
            continue
        else:
            raise SystemExit(f"unknown tensor {name}")
        weight = numpy.ascontiguousarray(weight, dtype=numpy.float32)
        if weight.ndim == 1:
            writer.add_tensor(name, weight)
        else:
            writer.add_tensor(name, gguf.quants.quantize(weight, quantization), raw_dtype=quantization)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--model", required=True, help="model folder")
    arguments.add_argument("--out", required=True, help="GGUF file")
    arguments.add_argument("--type", choices=TYPES, required=True)
    arguments = arguments.parse_args()

    def read(name):
        with open(os.path.join(arguments.model, name), encoding="utf-8") as file:
            return json.load(file)

    config = read("config.json")
    file_type, quantization = TYPES[arguments.type]
    writer = gguf.GGUFWriter(arguments.out, "llama")
    write_shape(writer, config, file_type)
    write_tokenizer(writer, config, read("tokenizer.json"))
    with safe_open(os.path.join(arguments.model, "model.safetensors"), "np") as weights:
        write_weights(writer, config, weights, quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


main()
