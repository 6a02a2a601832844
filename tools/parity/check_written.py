"""Reads a folder that rlrf wrote with transformers and compares logits and chat template. See README.md.

    python check_written.py FOLDER [EXPECTED]

EXPECTED (default: FOLDER/../expected.safetensors) holds `input_ids` and `logits` as rlrf computed them, or `scores` of a
reward model, and optionally `chat_ids`, the prompt of CONVERSATION. Exit code 1 if anything differs.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

TOLERANCE = 1e-4

# The example `write_model` of rlrf-model renders the same.
CONVERSATION = [
    {"role": "system", "content": "Answer in one word."},
    {"role": "user", "content": "What is 2 + 2?\nThink first."},
    {"role": "assistant", "content": "Four."},
    {"role": "user", "content": "And café × 3?"},
]


def check_weights(report):
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report[kind]:
            return f"{kind} {sorted(report[kind])}"
    return None


def check_logits(model, expected):
    with torch.no_grad():
        logits = model(input_ids=expected["input_ids"]).logits
    if logits.shape != expected["logits"].shape:
        return f"logits are {tuple(logits.shape)}, rlrf says {tuple(expected['logits'].shape)}"
    difference = ((logits - expected["logits"]).abs().max() / logits.abs().max()).item()
    print(f"logits: largest difference {difference:.1e} of the largest logit {logits.abs().max():.2f}")
    return None if difference <= TOLERANCE else f"logits differ by {difference:.1e} of the largest"


def check_scores(model, expected):
    """The sequences cut to different lengths, so that the padding tells: each is scored at its last token."""
    pad = model.config.pad_token_id
    input_ids = expected["input_ids"].clone()
    for row, length in enumerate(expected["lengths"].tolist()):
        input_ids[row, length:] = pad
    with torch.no_grad():
        scores = model(input_ids=input_ids).logits
    if scores.shape != (len(input_ids), 1):
        return f"scores are {tuple(scores.shape)}: num_labels is not 1"
    difference = (scores[:, 0] - expected["scores"]).abs().max().item()
    print(f"scores: largest difference {difference:.1e}")
    return None if difference <= TOLERANCE else f"scores differ by {difference:.1e}"


def check_chat(tokenizer, expected):
    if "chat_ids" not in expected:
        return None
    ours = tokenizer.apply_chat_template(CONVERSATION, add_generation_prompt=True, return_dict=False)
    theirs = expected["chat_ids"].tolist()
    if ours != theirs:
        return f"chat prompt is {ours}\n{tokenizer.decode(ours)!r}, rlrf says {theirs}\n{tokenizer.decode(theirs)!r}"
    print(f"chat prompt: the same {len(ours)} tokens")
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("expected", type=Path, nargs="?")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    torch.set_num_threads(1)

    expected = load_file(arguments.expected or arguments.folder.parent / "expected.safetensors")
    is_reward = "scores" in expected
    family, check = (
        (AutoModelForSequenceClassification, check_scores) if is_reward else (AutoModelForCausalLM, check_logits)
    )
    model, report = family.from_pretrained(
        arguments.folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder)
    print(f"{arguments.folder}: {type(model).__name__}, {type(tokenizer).__name__}")
    problems = [check_weights(report), check(model.eval(), expected), check_chat(tokenizer, expected)]
    problems = [problem for problem in problems if problem]
    for problem in problems:
        print(f"FAILED: {problem}")
    raise SystemExit(1 if problems else 0)


if __name__ == "__main__":
    main()
