"""Scores of transformers' sequence classifiers and the losses of TRL's RewardTrainer, as fixtures of `rlrf-model` and `rlrf-train`."""

import copy
import json
import tempfile

import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)
from trl import RewardConfig, RewardTrainer

from models import empty_folder, gradients, randomize
from objectives import END, PAD, VOCABULARY, compare_all, completion, random_tokens

SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": END,
    "pad_token_id": PAD,
    "num_labels": 1,
}
CASES = {"llama": LlamaConfig(**SHAPE), "qwen2": Qwen2Config(**SHAPE, tie_word_embeddings=True)}
LENGTHS = [13, 7, 21]
WEIGHTS = [1.0, -2.0, 0.5]

FORMULA = (
    "score = the head's number at the last token of prompt and completion, its end token; "
    "losses[i] = -log sigmoid(chosen_score - rejected_score - margin[i]); loss = mean(losses); "
    "accuracy = share of pairs with chosen_score > rejected_score"
)


def tiny_model(folder, config, seed):
    folder = empty_folder(folder)
    model = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager", dtype=torch.float32)
    randomize(model, seed)
    model.save_pretrained(folder)
    # From the folder alone, so that what is expected is what the files say.
    return AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()


def score(model, tokens):
    return model(input_ids=torch.tensor([tokens])).logits[0, 0]


def padded(rows):
    width = max(map(len, rows))
    return torch.tensor([row + [PAD] * (width - len(row)) for row in rows])


def scores(folder, config, seed):
    """Scores of a padded batch, and the gradients of their weighted sum."""
    model = tiny_model(folder, config, seed)
    generator = torch.Generator().manual_seed(seed + 1)
    rows = [random_tokens(generator, length) for length in LENGTHS]
    input_ids = padded(rows)
    found = model(input_ids=input_ids, attention_mask=(input_ids != PAD).long()).logits[:, 0]
    weights = torch.tensor(WEIGHTS)
    (found * weights).sum().backward()
    save_file(
        {
            "input_ids": input_ids,
            "lengths": torch.tensor(LENGTHS),
            "scores": found.detach(),
            "weights": weights,
            **gradients(model),
        },
        folder / "expected.safetensors",
    )
    alone = torch.stack([score(model, row) for row in rows])
    print(f"reward {folder.name}: padded and alone differ by {(alone - found).abs().max():.1e}")


def pairs():
    """Four pairs over two prompts; of the first prompt's completions one is in three pairs."""
    generator = torch.Generator().manual_seed(22)
    first, second = random_tokens(generator, 6), random_tokens(generator, 4)
    best, middle, worst = (completion(generator, length) for length in (7, 3, 5))
    ranked = [(first, best, worst, 0.0), (first, best, middle, 1.5), (first, middle, worst, 0.25)]
    ranked.append((second, completion(generator, 6), completion(generator, 1), 3.0))
    return [dict(zip(("prompt", "chosen", "rejected", "margin"), pair)) for pair in ranked]


def formula(model, pairs, with_margin):
    """The plain formula, one completion at a time."""
    side = lambda name: torch.stack([score(model, pair["prompt"] + pair[name]) for pair in pairs])
    chosen, rejected = side("chosen"), side("rejected")
    margins = torch.tensor([pair["margin"] if with_margin else 0.0 for pair in pairs], dtype=torch.float64)
    losses = -F.logsigmoid(chosen - rejected - margins)
    model.zero_grad()
    losses.mean().backward()
    values = {
        "loss": losses.mean(),
        "losses": losses,
        "chosen_scores": chosen,
        "rejected_scores": rejected,
        "accuracy": (chosen > rejected).double().mean(),
        "margin": (chosen - rejected).mean(),
    }
    return {name: value.detach() for name, value in values.items()}, gradients(model)


def trl(model, pairs, with_margin):
    """The same numbers out of TRL's RewardTrainer, its collator and its padded batch."""
    rows = [{f"{side}_ids": pair["prompt"] + pair[side] for side in ("chosen", "rejected")} for pair in pairs]
    if with_margin:
        rows = [{**row, "margin": pair["margin"]} for row, pair in zip(rows, pairs)]
    vocabulary = {"<pad>": PAD, "<s>": 1, "</s>": END, **{f"t{index}": index for index in range(3, VOCABULARY)}}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t3")), pad_token="<pad>", eos_token="</s>"
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = RewardConfig(
            output_dir=folder,
            max_length=None,
            per_device_train_batch_size=len(pairs),
            gradient_checkpointing=False,
            disable_dropout=True,
            use_cpu=True,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = RewardTrainer(
            model=copy.deepcopy(model),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
        )
        trained = trainer.model.train()
        trained.zero_grad()
        loss = trainer.compute_loss(trained, trainer.data_collator(rows))
        loss.backward()
        metrics = {name: torch.tensor(trainer._metrics["train"][name][-1]) for name in ("accuracy", "margin")}
        return {"loss": loss.detach(), **metrics, **gradients(trained)}


def make(model_fixtures, train_fixtures):
    """Writes a folder per family, and one with a tiny model, `cases.json` and `expected.safetensors`."""
    for index, (name, config) in enumerate(CASES.items()):
        scores(model_fixtures / name, config, seed=900 + 10 * index)
    model = tiny_model(train_fixtures, CASES["llama"], seed=21)
    exact = copy.deepcopy(model).double()
    ranked = pairs()
    cases, tensors = [], {}
    for name, with_margin in [("plain", False), ("margin", True)]:
        values, grads = formula(exact, ranked, with_margin)
        compare_all(f"reward {name}", {**values, **grads}, trl(model, ranked, with_margin))
        cases.append({"name": name, "with_margin": with_margin, **{k: v.tolist() for k, v in values.items()}})
        tensors |= {f"{name}.{key}": value for key, value in grads.items()}
    content = {"formula": FORMULA, "pairs": ranked, "cases": cases}
    (train_fixtures / "cases.json").write_text(json.dumps(content, indent=1) + "\n")
    save_file(tensors, train_fixtures / "expected.safetensors")
