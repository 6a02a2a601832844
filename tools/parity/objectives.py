"""Losses, gradients, AdamW steps and learning-rate schedules of TRL, torch and transformers, as fixtures of `rlrf-train`."""

import copy
import json
import tempfile

import torch
import torch.nn.functional as F
from datasets import Dataset
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    PreTrainedTokenizerFast,
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
)
from trl import DPOConfig, DPOTrainer

from models import empty_folder, gradients, randomize

VOCABULARY = 40
PAD, END = 0, 2
STEPS, WARMUP_STEPS = 20, 5
# The formulas run in float64, the reference implementations in float32: a difference of log-probabilities of size 30 loses
# some digits there.
AGREEMENT = 2e-5

# (name, beta, weight of the SFT term)
DPO_CASES = [("dpo-0.1", 0.1, 0.0), ("dpo-0.3", 0.3, 0.0), ("dpo-sft", 0.1, 1.0)]

DPO_FORMULA = (
    "logprob = sum of log p(token) over the completion, its end token included, each given prompt and completion so far; "
    "chosen_reward = beta * (chosen_logprob - chosen_reference_logprob), rejected_reward alike; "
    "margin = chosen_reward - rejected_reward; losses[i] = -log sigmoid(margin[i]); "
    "loss = mean(losses) + sft_weight * (-sum over pairs of chosen_logprob) / (sum over pairs of chosen completion tokens); "
    "a completion that is in two pairs counts twice; accuracy = share of pairs with margin > 0"
)
SFT_FORMULA = "loss = -(sum of log p(token) over the completions of all examples) / (number of those tokens)"


def random_tokens(generator, length):
    return torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()


def completion(generator, length):
    return random_tokens(generator, length - 1) + [END]


def tiny_model(folder):
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        bos_token_id=1,
        eos_token_id=END,
        pad_token_id=PAD,
    )
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32)
    randomize(model, seed=7)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink()
    return model


def near(model):
    """A reference model that differs from the policy as one does in training: by a little."""
    reference = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(8)
    with torch.no_grad():
        for _, parameter in sorted(reference.named_parameters()):
            parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
    return reference


def logprob(model, prompt, completion):
    """Log-probability of one completion, without padding or batching."""
    tokens = torch.tensor([prompt + completion])
    log_probabilities = model(input_ids=tokens).logits[0, :-1].log_softmax(dim=-1)
    per_token = log_probabilities.gather(1, tokens[0, 1:, None])[:, 0]
    return per_token[len(prompt) - 1 :].sum()


def compare(what, ours, theirs):
    theirs = theirs.to(ours.dtype)
    difference = ((ours - theirs).abs().max() / theirs.abs().max().clamp_min(1e-3)).item()
    if difference > AGREEMENT:
        raise SystemExit(f"{what}: the formula and the reference differ by {difference:.1e}")
    return difference


def compare_all(case, ours, theirs):
    difference = max(compare(f"{case} {name}", ours[name], theirs[name]) for name in theirs)
    print(f"{case}: agrees with the reference implementation to {difference:.1e}")


def sft(model):
    exact = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(11)
    examples = [
        {"prompt": random_tokens(generator, prompt), "completion": completion(generator, length)}
        for prompt, length in [(5, 9), (8, 4)]
    ]
    count = sum(len(example["completion"]) for example in examples)
    loss = -sum(logprob(exact, **example) for example in examples) / count
    loss.backward()
    result = {"loss": loss.detach(), **gradients(exact)}

    # transformers' own loss over a padded batch with the prompt's labels masked, as TRL's SFTTrainer feeds it.
    rows = [example["prompt"] + example["completion"] for example in examples]
    labels = [[-100] * len(example["prompt"]) + example["completion"] for example in examples]
    width = max(map(len, rows))
    pad = lambda lists, value: torch.tensor([row + [value] * (width - len(row)) for row in lists])
    model.zero_grad()
    reference = model(
        input_ids=pad(rows, PAD), attention_mask=pad([[1] * len(row) for row in rows], 0), labels=pad(labels, -100)
    ).loss
    reference.backward()
    compare_all("sft", result, {"loss": reference.detach(), **gradients(model)})

    case = {"formula": SFT_FORMULA, "examples": examples, "completion_tokens": count, "loss": result.pop("loss").item()}
    return case, {f"sft.{name}": tensor for name, tensor in result.items()}


def preference_pairs(model, reference):
    """Four pairs over two prompts; of the first prompt's completions one chosen and one rejected are in two pairs."""
    generator = torch.Generator().manual_seed(12)
    first, second = random_tokens(generator, 6), random_tokens(generator, 4)
    chosen = [completion(generator, length) for length in (7, 3)]
    rejected = [completion(generator, length) for length in (5, 8)]
    pairs = [
        {"prompt": first, "chosen": chosen[0], "rejected": rejected[0]},
        {"prompt": first, "chosen": chosen[0], "rejected": rejected[1]},
        {"prompt": first, "chosen": chosen[1], "rejected": rejected[0]},
        {"prompt": second, "chosen": completion(generator, 6), "rejected": completion(generator, 1)},
    ]
    with torch.no_grad():
        for pair in pairs:
            for side in ("chosen", "rejected"):
                pair[f"{side}_logprob"] = logprob(model, pair["prompt"], pair[side]).item()
                pair[f"{side}_reference_logprob"] = logprob(reference, pair["prompt"], pair[side]).item()
    return pairs


def dpo(model, pairs, beta, sft_weight):
    """The plain formula, one completion at a time."""
    side = lambda name: torch.stack([logprob(model, pair["prompt"], pair[name]) for pair in pairs])
    stored = lambda name: torch.tensor([pair[f"{name}_reference_logprob"] for pair in pairs], dtype=torch.float64)
    chosen, rejected = side("chosen"), side("rejected")
    chosen_rewards = beta * (chosen - stored("chosen"))
    rejected_rewards = beta * (rejected - stored("rejected"))
    margins = chosen_rewards - rejected_rewards
    losses = -F.logsigmoid(margins)
    loss = losses.mean() - sft_weight * chosen.sum() / sum(len(pair["chosen"]) for pair in pairs)
    model.zero_grad()
    loss.backward()
    values = {
        "loss": loss,
        "losses": losses,
        "chosen_rewards": chosen_rewards,
        "rejected_rewards": rejected_rewards,
        "margins": margins,
        "accuracy": (margins > 0).double().mean(),
    }
    return {name: value.detach() for name, value in values.items()}, gradients(model)


def tokenizer():
    """What a trainer wants of one: ids of the special tokens."""
    vocabulary = {"<pad>": PAD, "<s>": 1, "</s>": END, **{f"t{index}": index for index in range(3, VOCABULARY)}}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="t3")), pad_token="<pad>", eos_token="</s>"
    )


class TokenDPOTrainer(DPOTrainer):
    """The data set holds token ids already: only the preparation of text is left out."""

    def _prepare_dataset(self, dataset, *args, **kwargs):
        return dataset


def trl_dpo(model, reference, pairs, beta, sft_weight):
    """The same numbers out of TRL's DPOTrainer, its collator and its padded batch."""
    rows = [{"prompt_ids": pair["prompt"], "chosen_ids": pair["chosen"], "rejected_ids": pair["rejected"]} for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder,
            beta=beta,
            loss_type=["sigmoid", "sft"] if sft_weight else ["sigmoid"],
            loss_weights=[1.0, sft_weight] if sft_weight else [1.0],
            max_length=None,
            per_device_train_batch_size=len(pairs),
            gradient_checkpointing=False,
            use_cpu=True,
            bf16=False,
            report_to="none",
            disable_tqdm=True,
        )
        trainer = TokenDPOTrainer(
            # Copies, because the trainer patches the models that it is given.
            model=copy.deepcopy(model),
            ref_model=copy.deepcopy(reference),
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer(),
        )
        policy = trainer.model
        with torch.no_grad():
            single = [trainer.compute_loss(policy, trainer.data_collator([row])) for row in rows]
        trainer._metrics["train"].clear()
        policy.zero_grad()
        loss = trainer.compute_loss(policy, trainer.data_collator(rows))
        loss.backward()
        metrics = {name: torch.tensor(values[-1]) for name, values in trainer._metrics["train"].items()}
        return loss.detach(), torch.stack(single), metrics, gradients(policy)


def preference(model):
    reference = near(model)
    exact = copy.deepcopy(model).double()
    pairs = preference_pairs(exact, copy.deepcopy(reference).double())
    cases, tensors = [], {}
    for name, beta, sft_weight in DPO_CASES:
        values, grads = dpo(exact, pairs, beta, sft_weight)
        loss, losses, metrics, trl_grads = trl_dpo(model, reference, pairs, beta, sft_weight)
        ours = {**grads, "loss": values["loss"], "accuracy": values["accuracy"]}
        theirs = {**trl_grads, "loss": loss, "accuracy": metrics["rewards/accuracies"]}
        for key, metric in [("chosen_rewards", "chosen"), ("rejected_rewards", "rejected"), ("margins", "margins")]:
            ours[key], theirs[key] = values[key].mean(), metrics[f"rewards/{metric}"]
        if not sft_weight:
            ours["losses"], theirs["losses"] = values["losses"], losses
        compare_all(name, ours, theirs)
        cases.append({"name": name, "beta": beta, "sft_weight": sft_weight, **{k: v.tolist() for k, v in values.items()}})
        tensors |= {f"{name}.{key}": value for key, value in grads.items()}
    return {"formula": DPO_FORMULA, "pairs": pairs, "cases": cases}, tensors


def adamw():
    """Parameters after each of five steps, with weight decay and without."""
    settings = {"learning_rate": 1e-2, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    generator = torch.Generator().manual_seed(13)
    initial = torch.randn(9, generator=generator)
    grads = torch.randn(5, 9, generator=generator) * torch.logspace(-4, 2, 9)
    tensors = {"adamw.initial": initial, "adamw.gradients": grads}
    for name, weight_decay in [("decay", 0.1), ("no_decay", 0.0)]:
        parameter = torch.nn.Parameter(initial.clone())
        optimizer = torch.optim.AdamW(
            [parameter],
            lr=settings["learning_rate"],
            betas=(settings["beta1"], settings["beta2"]),
            eps=settings["epsilon"],
            weight_decay=weight_decay,
        )
        steps = []
        for grad in grads:
            parameter.grad = grad.clone()
            optimizer.step()
            steps.append(parameter.detach().clone())
        tensors[f"adamw.{name}"] = torch.stack(steps)
    return {**settings, "weight_decay": {"adamw.decay": 0.1, "adamw.no_decay": 0.0}}, tensors


def schedules():
    """Factors of the learning rate at optimizer steps 0 to 19."""
    optimizer = lambda: torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduled = {
        "cosine": get_cosine_schedule_with_warmup(optimizer(), WARMUP_STEPS, STEPS),
        "constant": get_constant_schedule_with_warmup(optimizer(), WARMUP_STEPS),
    }
    factors = {name: [schedule.lr_lambdas[0](step) for step in range(STEPS)] for name, schedule in scheduled.items()}
    return {"steps": STEPS, "warmup_steps": WARMUP_STEPS, **factors}


def make(folder):
    """Writes the folder: a tiny model, `cases.json` and `expected.safetensors`."""
    folder = empty_folder(folder)
    model = tiny_model(folder)
    cases, tensors = {}, {}
    for name, part in [("sft", sft(model)), ("preference", preference(model)), ("adamw", adamw())]:
        cases[name] = part[0]
        tensors |= part[1]
    cases["schedules"] = schedules()
    (folder / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
    save_file(tensors, folder / "expected.safetensors")
