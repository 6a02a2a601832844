"""Losses over preference pairs beside DPO, and policy gradients on scores, as fixtures of `rlrf-train`."""

import copy
import json
import tempfile
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM
from trl import DPOConfig, GRPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.cpo import CPOTrainer
from trl.experimental.orpo import ORPOTrainer

from models import empty_folder, gradients
from objectives import TokenDPOTrainer, compare_all, completion, near, preference_pairs, random_tokens, tokenizer

ACCELERATOR = SimpleNamespace(
    device=torch.device("cpu"), reduce=lambda tensor, reduction: tensor, gather=lambda tensor: tensor
)

PREFERENCE_CASES = [
    {"name": "conservative-dpo", "loss": "dpo", "beta": 0.3, "label_smoothing": 0.1},
    {"name": "robust", "loss": "robust", "beta": 0.3, "label_smoothing": 0.2},
    {"name": "ipo", "loss": "ipo", "beta": 0.4},
    {"name": "simpo", "loss": "simpo", "beta": 2.0, "gamma": 1.0},
    {"name": "orpo", "loss": "orpo", "beta": 0.5},
    {"name": "kto", "loss": "kto", "beta": 0.2, "desirable_weight": 1.5, "undesirable_weight": 0.7},
    {"name": "simpo-sft", "loss": "simpo", "beta": 2.0, "gamma": 0.5, "sft_weight": 0.3},
]
POLICY_CASES = [
    {"name": "grpo", "loss": "grpo", "epsilon": 0.2, "beta": 0.0},
    {"name": "grpo-kl", "loss": "grpo", "epsilon": 0.1, "beta": 0.04},
    {"name": "rloo", "loss": "rloo", "epsilon": 0.2, "beta": 0.0},
    {"name": "rloo-kl", "loss": "rloo", "epsilon": 0.3, "beta": 0.1},
]

PREFERENCE_FORMULA = (
    "u = logprob - reference_logprob, a = logprob / tokens of a completion; per pair, c chosen, r rejected, e label_smoothing, "
    "s the logistic function: dpo -(1-e) log s(m) - e log s(-m), robust (-(1-e) log s(m) + e log s(-m)) / (1-2e), both with "
    "m = beta (u_c - u_r); ipo (u_c/tokens_c - u_r/tokens_r - 1/(2 beta))^2; simpo -log s(beta (a_c - a_r) - gamma); "
    "orpo -beta log s(logit(a_c) - logit(a_r)), logit(a) = a - log(1 - exp(a)); kto mean over 2 examples a pair of "
    "desirable_weight (1 - s(beta (u_c - z))) and undesirable_weight (1 - s(beta (z - u_r))), z = max(0, mean over prompts of u of "
    "their mismatched completion), without gradient; loss = mean(losses) + w (-sum of chosen logprobs) / (their tokens), "
    "w = 1 for orpo, else sft_weight"
)
POLICY_FORMULA = (
    "A of a sample: grpo (score - mean) / (std + 1e-4), std with n - 1; rloo score - mean of the other samples of the prompt; "
    "d = logprob - reference_logprob of a token, r = exp(d); "
    "l = -min(r A, clip(r, 1 - epsilon, 1 + epsilon) A) + beta (exp(-d) + d - 1); a sample's loss is the mean (grpo) or the sum "
    "(rloo) of l over its tokens, loss the mean over all samples"
)


def token_logprobs(model, prompt, completion):
    """Log-probability of each token of one completion."""
    tokens = torch.tensor([prompt + completion])
    log_probabilities = model(input_ids=tokens).logits[0, :-1].log_softmax(dim=-1)
    return log_probabilities.gather(1, tokens[0, 1:, None])[:, 0][len(prompt) - 1 :]


def logprobs(model, pairs, side):
    return torch.stack([token_logprobs(model, pair["prompt"], pair[side]).sum() for pair in pairs])


def lengths(pairs, side):
    return torch.tensor([float(len(pair[side])) for pair in pairs])


def references(pairs, side):
    return torch.tensor([pair[f"{side}_reference_logprob"] for pair in pairs], dtype=torch.float64)


def mismatches(pairs, model, reference):
    """Per prompt, the first chosen completion of the prompt before it; the first prompt has that of the last."""
    first = {}
    for pair in pairs:
        first.setdefault(tuple(pair["prompt"]), pair["chosen"])
    prompts, chosen = list(first), list(first.values())
    rows = [{"prompt": list(prompt), "completion": chosen[index - 1]} for index, prompt in enumerate(prompts)]
    with torch.no_grad():
        for row in rows:
            row["logprob"] = token_logprobs(model, row["prompt"], row["completion"]).sum().item()
            row["reference_logprob"] = token_logprobs(reference, row["prompt"], row["completion"]).sum().item()
    return rows


def baseline(mismatched):
    return max(0.0, sum(row["logprob"] - row["reference_logprob"] for row in mismatched) / len(mismatched))


def pair_losses(case, chosen, rejected, pairs, mismatched):
    """The plain formula, from log-probabilities summed over tokens; the losses and the implicit rewards."""
    beta, smoothing = case["beta"], case.get("label_smoothing", 0.0)
    chosen_ratios, rejected_ratios = chosen - references(pairs, "chosen"), rejected - references(pairs, "rejected")
    chosen_lengths, rejected_lengths = lengths(pairs, "chosen"), lengths(pairs, "rejected")
    chosen_means, rejected_means = chosen / chosen_lengths, rejected / rejected_lengths
    margins = beta * (chosen_ratios - rejected_ratios)
    clean, flipped = -F.logsigmoid(margins), -F.logsigmoid(-margins)
    logit = lambda mean: mean - torch.log1p(-torch.exp(mean))
    if case["loss"] == "dpo":
        losses = (1 - smoothing) * clean + smoothing * flipped
    elif case["loss"] == "robust":
        losses = ((1 - smoothing) * clean - smoothing * flipped) / (1 - 2 * smoothing)
    elif case["loss"] == "ipo":
        losses = (chosen_ratios / chosen_lengths - rejected_ratios / rejected_lengths - 1 / (2 * beta)) ** 2
    elif case["loss"] == "simpo":
        losses = -F.logsigmoid(beta * (chosen_means - rejected_means) - case["gamma"])
    elif case["loss"] == "orpo":
        losses = -beta * F.logsigmoid(logit(chosen_means) - logit(rejected_means))
    elif case["loss"] == "kto":
        z = baseline(mismatched)
        desirable = case["desirable_weight"] * (1 - torch.sigmoid(beta * (chosen_ratios - z)))
        undesirable = case["undesirable_weight"] * (1 - torch.sigmoid(beta * (z - rejected_ratios)))
        losses = (desirable + undesirable) / 2
    referenced = case["loss"] not in ("simpo", "orpo")
    rewards = (chosen_ratios, rejected_ratios) if referenced else (chosen_means, rejected_means)
    return losses, beta * rewards[0], beta * rewards[1]


def preference_case(model, case, pairs, mismatched):
    chosen, rejected = logprobs(model, pairs, "chosen"), logprobs(model, pairs, "rejected")
    losses, chosen_rewards, rejected_rewards = pair_losses(case, chosen, rejected, pairs, mismatched)
    weight = 1.0 if case["loss"] == "orpo" else case.get("sft_weight", 0.0)
    loss = losses.mean() - weight * chosen.sum() / lengths(pairs, "chosen").sum()
    model.zero_grad()
    loss.backward()
    values = {
        "loss": loss,
        "losses": losses,
        "chosen_rewards": chosen_rewards,
        "rejected_rewards": rejected_rewards,
        "accuracy": (chosen_rewards > rejected_rewards).double().mean(),
    }
    return {name: value.detach() for name, value in values.items()}, gradients(model)


def trl_dpo(model, reference, case, pairs):
    """Loss and gradients of TRL's DPOTrainer for the losses that it has."""
    rows = [{"prompt_ids": pair["prompt"], "chosen_ids": pair["chosen"], "rejected_ids": pair["rejected"]} for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            beta=case["beta"],
            loss_type=[case["loss"]],
            label_smoothing=case.get("label_smoothing", 0.0),
            max_length=None,
            **trainer_settings(folder, len(pairs)),
        )
        trainer = TokenDPOTrainer(
            model=copy.deepcopy(model),
            ref_model=copy.deepcopy(reference),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer(),
        )
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, trainer.data_collator(rows))
        loss.backward()
        return loss.detach(), gradients(trainer.model)


class TokenKTOTrainer(KTOTrainer):
    """The data set holds token ids already: only the preparation of text is left out."""

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset


def trl_kto(model, reference, case, pairs, mismatched):
    """Loss and gradients of TRL's KTOTrainer: two examples a pair, one mismatched completion a prompt."""
    rows = [
        {"prompt_ids": pair["prompt"], "completion_ids": pair[side], "KL_completion_ids": pair["chosen"], "label": side == "chosen"}
        for pair in pairs
        for side in ("chosen", "rejected")
    ]
    kl_rows = [
        {"prompt_ids": row["prompt"], "completion_ids": row["completion"], "KL_completion_ids": row["completion"], "label": True}
        for row in mismatched
    ]
    with tempfile.TemporaryDirectory() as folder:
        arguments = KTOConfig(
            beta=case["beta"],
            desirable_weight=case["desirable_weight"],
            undesirable_weight=case["undesirable_weight"],
            max_length=None,
            train_sampling_strategy="sequential",
            **trainer_settings(folder, len(rows)),
        )
        trainer = TokenKTOTrainer(
            model=copy.deepcopy(model),
            ref_model=copy.deepcopy(reference),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer(),
        )
        batch, kl_batch = trainer.data_collator(rows), trainer.data_collator(kl_rows)
        batch |= {name: value for name, value in kl_batch.items() if name.startswith("KL_")}
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, batch)
        loss.backward()
        return loss.detach(), gradients(trainer.model)


def trainer_settings(folder, batch_size):
    return {
        "output_dir": folder,
        "per_device_train_batch_size": batch_size,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "bf16": False,
        "report_to": "none",
        "disable_tqdm": True,
    }


def trl_formula(model, case, pairs):
    """Loss and gradients of the functions of TRL's CPOTrainer and ORPOTrainer on log-probabilities computed here."""
    model = copy.deepcopy(model)
    chosen, rejected = logprobs(model, pairs, "chosen"), logprobs(model, pairs, "rejected")
    if case["loss"] == "dpo":
        # The smoothed sigmoid loss, which DPOTrainer no longer has.
        settings = {"loss_type": "sigmoid", "simpo_gamma": 0.0}
        chosen, rejected = (chosen - references(pairs, "chosen")).float(), (rejected - references(pairs, "rejected")).float()
    else:
        settings = {"loss_type": "simpo", "simpo_gamma": case.get("gamma")}
        sft = chosen.sum() / lengths(pairs, "chosen").sum()
        chosen, rejected = chosen / lengths(pairs, "chosen"), rejected / lengths(pairs, "rejected")
    trainer = SimpleNamespace(
        beta=case["beta"], alpha=0.0, label_smoothing=case.get("label_smoothing", 0.0), accelerator=ACCELERATOR, **settings
    )
    if case["loss"] == "orpo":
        loss = -ORPOTrainer.odds_ratio_loss(trainer, chosen, rejected)[0].mean() - sft
    else:
        loss = CPOTrainer.cpo_loss(trainer, chosen, rejected)[0].mean()
    if case.get("sft_weight"):
        loss = loss - case["sft_weight"] * sft
    loss.backward()
    return loss.detach(), gradients(model)


def described(case, values):
    """A case of the file: its name, its settings as rlrf names them, and the values."""
    config = {name: value for name, value in case.items() if name != "name"}
    return {"name": case["name"], "config": config, **{name: value.tolist() for name, value in values.items()}}


def preference(model, reference, exact, exact_reference):
    pairs = preference_pairs(exact, exact_reference)
    mismatched = mismatches(pairs, exact, exact_reference)
    cases, tensors = [], {}
    for case in PREFERENCE_CASES:
        values, grads = preference_case(exact, case, pairs, mismatched)
        if case["loss"] in ("robust", "ipo"):
            loss, trl_grads = trl_dpo(model, reference, case, pairs)
        elif case["loss"] == "kto":
            loss, trl_grads = trl_kto(model, reference, case, pairs, mismatched)
        else:
            loss, trl_grads = trl_formula(model, case, pairs)
        compare_all(case["name"], {**grads, "loss": values["loss"]}, {**trl_grads, "loss": loss})
        cases.append(described(case, values))
        tensors |= {f"{case['name']}.{key}": value for key, value in grads.items()}
    return {"formula": PREFERENCE_FORMULA, "pairs": pairs, "mismatched": mismatched, "cases": cases}, tensors


def scored_groups(reference):
    """Two prompts; of the first one's samples two are the same completion."""
    generator = torch.Generator().manual_seed(14)
    groups = []
    for prompt_length, completion_lengths, scores in [
        (6, [7, 3, 5, 7, 1], [2.75, 1.0, 1.5, 2.75, 2.0]),
        (4, [2, 8], [1.25, 3.0]),
    ]:
        prompt = random_tokens(generator, prompt_length)
        completions = [completion(generator, length) for length in completion_lengths]
        if len(completions) > 3:
            completions[3] = completions[0]
        with torch.no_grad():
            samples = [
                {
                    "completion": tokens,
                    "score": score,
                    "reference_logprobs": token_logprobs(reference, prompt, tokens).tolist(),
                }
                for tokens, score in zip(completions, scores)
            ]
        groups.append({"prompt": prompt, "samples": samples})
    return groups


def advantages(loss, groups):
    lists = []
    for group in groups:
        scores = torch.tensor([sample["score"] for sample in group["samples"]], dtype=torch.float64)
        if loss == "grpo":
            lists.append((scores - scores.mean()) / (scores.std() + 1e-4))
        else:
            others = (scores.sum() - scores) / (len(scores) - 1)
            lists.append(scores - others)
    return torch.cat(lists)


def policy_case(model, case, groups):
    samples = [(group["prompt"], sample) for group in groups for sample in group["samples"]]
    losses, clipped, divergences = [], [], []
    for (prompt, sample), advantage in zip(samples, advantages(case["loss"], groups)):
        stored = torch.tensor(sample["reference_logprobs"], dtype=torch.float64)
        difference = token_logprobs(model, prompt, sample["completion"]) - stored
        ratio = difference.exp()
        clamped = ratio.clamp(1 - case["epsilon"], 1 + case["epsilon"])
        divergence = torch.exp(-difference) + difference - 1
        loss = -torch.minimum(ratio * advantage, clamped * advantage) + case["beta"] * divergence
        losses.append(loss.mean() if case["loss"] == "grpo" else loss.sum())
        clipped.append(clamped * advantage < ratio * advantage)
        divergences.append(divergence)
    loss = torch.stack(losses).mean()
    model.zero_grad()
    loss.backward()
    values = {
        "loss": loss.detach(),
        "clip_ratio": torch.cat(clipped).double().mean(),
        "kl_per_token": torch.cat(divergences).mean().detach(),
    }
    return values, gradients(model)


def trl_grpo(model, case, groups):
    """Loss, metrics and gradients of TRL's GRPOTrainer on its padded batch; a sum over tokens is its `luspo` by token."""
    model = copy.deepcopy(model)
    samples = [(group["prompt"], sample) for group in groups for sample in group["samples"]]

    def pad(rows, left):
        width = max(map(len, rows))
        fill = lambda row: [0] * (width - len(row))
        return torch.tensor([fill(row) + row if left else row + fill(row) for row in rows])

    prompts, completions = [prompt for prompt, _ in samples], [sample["completion"] for _, sample in samples]
    stored = pad([sample["reference_logprobs"] for _, sample in samples], left=False).float()
    inputs = {
        "prompt_ids": pad(prompts, left=True),
        "prompt_mask": pad([[1] * len(row) for row in prompts], left=True),
        "completion_ids": pad(completions, left=False),
        "completion_mask": pad([[1] * len(row) for row in completions], left=False),
        "advantages": advantages(case["loss"], groups).float(),
        "old_per_token_logps": stored,
        "ref_per_token_logps": stored,
    }

    def per_token(model, input_ids, attention_mask, logits_to_keep, **_):
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits[:, :-1].log_softmax(dim=-1)
        kept = logits.gather(2, input_ids[:, 1:, None])[:, -logits_to_keep:, 0]
        return kept, torch.zeros_like(kept), None

    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=per_token,
        model=model.train(),
        accelerator=ACCELERATOR,
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False),
        loss_type="grpo" if case["loss"] == "grpo" else "luspo",
        beta=case["beta"],
        epsilon_low=case["epsilon"],
        epsilon_high=case["epsilon"],
        importance_sampling_level="token",
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        current_gradient_accumulation_steps=1,
        aux_loss_enabled=False,
        use_vllm=False,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
    )
    loss = GRPOTrainer._compute_loss(trainer, model, inputs)
    loss.backward()
    metrics = {"loss": loss.detach(), "clip_ratio": torch.tensor(trainer._metrics["train"]["clip_ratio/region_mean"][-1])}
    if case["beta"]:
        metrics["kl_per_token"] = torch.tensor(trainer._metrics["train"]["kl"][-1])
    return metrics, gradients(model)


def policy(model, exact, exact_reference):
    groups = scored_groups(exact_reference)
    cases, tensors = [], {}
    for case in POLICY_CASES:
        values, grads = policy_case(exact, case, groups)
        trl_values, trl_grads = trl_grpo(model, case, groups)
        compare_all(case["name"], {**grads, **values}, {**trl_grads, **trl_values})
        cases.append(described(case, values))
        tensors |= {f"{case['name']}.{key}": value for key, value in grads.items()}
    return {"formula": POLICY_FORMULA, "groups": groups, "cases": cases}, tensors


def make(model_folder, folder):
    """Writes `cases.json` and `expected.safetensors`, computed with the model of `objectives.py`."""
    folder = empty_folder(folder)
    model = AutoModelForCausalLM.from_pretrained(Path(model_folder), attn_implementation="eager", dtype=torch.float32)
    reference = near(model)
    exact, exact_reference = copy.deepcopy(model).double(), copy.deepcopy(reference).double()
    cases, tensors = {}, {}
    for name, part in [
        ("preference", preference(model, reference, exact, exact_reference)),
        ("policy", policy(model, exact, exact_reference)),
    ]:
        cases[name] = part[0]
        tensors |= part[1]
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    save_file(tensors, folder / "expected.safetensors")
