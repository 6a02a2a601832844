"""Writes a Llama with random weights as a folder in Hugging Face layout: f32 safetensors, config.json, and a byte-level
tokenizer trained on the Python sources found on this machine (nothing is downloaded from a model hub).

    python make_model.py --shape smollm-135m --out smollm-135m
"""

import argparse
import glob
import sysconfig

from common import import_torch

# The presets of `rlrf model new` under the same names.
SHAPES = {
    "smollm-135m": {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "max_position_embeddings": 2048,
        "rope_theta": 100000.0,
    },
    # With the vocabulary of examples/word-problems.
    "word-4m": {
        "hidden_size": 320,
        "intermediate_size": 960,
        "num_hidden_layers": 3,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "vocab_size": 768,
        "max_position_embeddings": 1024,
        "rope_theta": 10000.0,
    },
}
SPECIAL_TOKENS = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]


def sources(megabytes):
    """Texts, this much of them."""
    left = megabytes * 1_000_000
    folders = [sysconfig.get_paths()[name] for name in ("stdlib", "purelib")]
    for path in (path for folder in folders for path in sorted(glob.glob(folder + "/**/*.py", recursive=True))):
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except (UnicodeDecodeError, OSError):
            continue
        left -= len(text)
        if left < 0:
            return
        yield text


def train_tokenizer(vocab_size, texts):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=SPECIAL_TOKENS, show_progress=False, initial_alphabet=alphabet
    )
    tokenizer.train_from_iterator(texts, trainer)
    missing = vocab_size - tokenizer.get_vocab_size()
    tokenizer.add_tokens([f"<|extra_{i}|>" for i in range(missing)])
    return tokenizer


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--shape", choices=SHAPES, required=True)
    arguments.add_argument("--out", required=True, help="folder of the model")
    arguments.add_argument("--text-megabytes", type=int, default=25)
    arguments = arguments.parse_args()
    torch = import_torch(2)
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    shape = SHAPES[arguments.shape]
    tokenizer = train_tokenizer(shape["vocab_size"], sources(arguments.text_megabytes))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="left"
    ).save_pretrained(arguments.out)
    config = LlamaConfig(
        **shape, rms_norm_eps=1e-5, tie_word_embeddings=True, bos_token_id=1, eos_token_id=2, pad_token_id=0
    )
    model = LlamaForCausalLM(config).to(torch.float32)
    model.save_pretrained(arguments.out)
    print(f"{arguments.out}: {sum(p.numel() for p in model.parameters())} parameters")


main()
