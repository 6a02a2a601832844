"""Converts the stories260K checkpoint of llama2.c into a Hugging Face folder and checks it. See README.md.

    python convert_stories260k.py SOURCE [FOLDER]

SOURCE holds stories260K.bin, tok512.model, expected_greedy_200.txt and LICENSE.
"""

import argparse
import json
import re
import shutil
import struct
from pathlib import Path

import numpy
import sentencepiece
import torch
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from models import empty_folder

BOS, EOS = 1, 2
FOLDER = Path(__file__).resolve().parents[2] / "crates/rlrf-model/tests/fixtures/stories260K"

STRINGS = [
    "",
    "Once upon a time, there was a little girl named Lily.",
    "  leading,  doubled and trailing spaces  ",
    "line one\n\nline two\ttabbed\r\n",
    "1234 + 5678 = 6912; 3.14159",
    "naïve café, Zoë and 東京 🦙 \u0000\u007f",
    "He said: \"Don't!\" — and left…",
    "zzzzqqqq aaaaaaa the the the",
    " ",
    "\n",
    " \n x \n ",
]


def read_checkpoint(path):
    """Configuration and tensors of a llama2.c version-0 file (see `model.py` and `export.py` of karpathy/llama2.c)."""
    data = path.read_bytes()
    hidden, intermediate, layers, heads, key_value_heads, vocabulary, context = struct.unpack("<7i", data[:28])
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=context,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        tie_word_embeddings=True,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=None,
    )
    floats = numpy.frombuffer(data, dtype="<f4", offset=28)
    head_dim = hidden // heads
    key_value = key_value_heads * head_dim
    shapes = {
        "embed_tokens": (vocabulary, hidden),
        "input_layernorm": (layers, hidden),
        "self_attn.q_proj": (layers, hidden, hidden),
        "self_attn.k_proj": (layers, key_value, hidden),
        "self_attn.v_proj": (layers, key_value, hidden),
        "self_attn.o_proj": (layers, hidden, hidden),
        "post_attention_layernorm": (layers, hidden),
        "mlp.gate_proj": (layers, intermediate, hidden),
        "mlp.down_proj": (layers, hidden, intermediate),
        "mlp.up_proj": (layers, intermediate, hidden),
        "norm": (hidden,),
    }
    tensors, offset = {}, 0
    for name, shape in shapes.items():
        length = int(numpy.prod(shape))
        tensors[name] = torch.from_numpy(floats[offset : offset + length].reshape(shape).copy())
        offset += length
    if offset + context * head_dim != len(floats):
        raise SystemExit(f"{path}: {len(floats)} floats, expected {offset} of tensors and {context * head_dim} of angles")
    return config, tensors


def half_rotated(weight, head_dim):
    """Rows of a projection from interleaved pairs (2i, 2i + 1) to the pairs (i, i + head_dim / 2) of transformers."""
    rows, columns = weight.shape
    return weight.view(rows // head_dim, head_dim // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def to_transformers(config, tensors):
    state = {"model.embed_tokens.weight": tensors["embed_tokens"], "model.norm.weight": tensors["norm"]}
    for name in tensors.keys() - {"embed_tokens", "norm"}:
        for layer, weight in enumerate(tensors[name]):
            if name in ("self_attn.q_proj", "self_attn.k_proj"):
                weight = half_rotated(weight, config.hidden_size // config.num_attention_heads)
            state[f"model.layers.{layer}.{name}.weight"] = weight.contiguous()
    model = LlamaForCausalLM(config)
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    model.generation_config = GenerationConfig(bos_token_id=BOS, eos_token_id=EOS, do_sample=False)
    return model


def to_tokenizer(path):
    """A `tokenizer.json` that does what the SentencePiece BPE model at `path` does."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(path.read_bytes())
    pieces = [(piece.piece, piece.score) for piece in proto.pieces]
    vocabulary = {piece: index for index, (piece, _) in enumerate(pieces)}
    # SentencePiece merges any two adjacent pieces whose concatenation is a piece, best score first.
    merges = [
        (score, piece[:cut], piece[cut:])
        for piece, score in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]
    merges.sort(key=lambda merge: (-merge[0], vocabulary[merge[1]], vocabulary[merge[2]]))

    special = [piece for piece, _ in pieces[:3]]
    tokenizer = Tokenizer(
        models.BPE(
            vocab=vocabulary,
            merges=[(left, right) for _, left, right in merges],
            unk_token=special[0],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    steps = []
    if proto.normalizer_spec.remove_extra_whitespaces:
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    steps += [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{special[BOS]} $A", pair=f"{special[BOS]} $A $B", special_tokens=[(special[BOS], BOS)]
    )
    return tokenizer


def write_tokenizer(tokenizer, folder, context):
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "unk_token": "<unk>",
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": context,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def check(source, folder):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = (source / "expected_greedy_200.txt").read_text()
    tokens = model.generate(torch.tensor([[BOS]]), do_sample=False, max_new_tokens=200)[0]
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    if text != expected.rstrip("\n") and text != expected:
        raise SystemExit(f"greedy text differs:\n{text!r}\n{expected!r}")
    print(f"greedy text of {len(tokens) - 1} tokens is the expected one, {len(text)} characters")

    reference = sentencepiece.SentencePieceProcessor(model_file=str(source / "tok512.model"))
    strings = STRINGS + [expected] + re.split(r"(?<=\.) ", expected)
    encoded = []
    for string in strings:
        ours, theirs = tokenizer.encode(string, add_special_tokens=False), reference.encode(string)
        if ours != theirs:
            raise SystemExit(f"{string!r} is {ours}, SentencePiece says {theirs}")
        if tokenizer.decode(ours) != reference.decode(theirs):
            raise SystemExit(f"{ours} is {tokenizer.decode(ours)!r}, SentencePiece says {reference.decode(theirs)!r}")
        if tokenizer.encode(string) != [BOS] + ours:
            raise SystemExit(f"{string!r} does not begin with the beginning-of-sequence token by default")
        encoded.append({"text": string, "tokens": theirs, "decoded": reference.decode(theirs)})
    lines = ",\n".join(json.dumps(row) for row in encoded)
    (folder / "expected_tokens.json").write_text(f"[\n{lines}\n]\n")
    print(f"{len(strings)} strings encode and decode as in SentencePiece")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path, nargs="?", default=FOLDER)
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(1)

    config, tensors = read_checkpoint(arguments.source / "stories260K.bin")
    folder = empty_folder(arguments.folder)
    to_transformers(config, tensors).save_pretrained(folder)
    write_tokenizer(to_tokenizer(arguments.source / "tok512.model"), folder, config.max_position_embeddings)
    for name in ("LICENSE", "expected_greedy_200.txt"):
        shutil.copyfile(arguments.source / name, folder / name)
    check(arguments.source, folder)


if __name__ == "__main__":
    main()
