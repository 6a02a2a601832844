"""What is compared: each workload on both sides, the peer's ways of doing it, and what is aimed at.

A peer has several variants where it is not known which is its fastest; a first pass chooses among them. Options are
written without their dashes; `True` is a flag.
"""

from dataclasses import dataclass, field
from pathlib import Path

LORA_RANK = 16
WORD_PROBLEM_LENGTHS = Path(__file__).resolve().parents[1] / "word-problem-lengths.txt"


@dataclass(frozen=True)
class Side:
    """A command of `rlrf bench`, or a script in `bench/peers`, and its options."""

    program: str
    options: dict = field(default_factory=dict)
    # In place of those above, where only the way it goes is looked at.
    quick: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Workload:
    name: str
    precision: str
    unit: str
    # Our rate by the peer's, at least; none where it is only reported.
    goal: float | None
    ours: Side
    peer: str
    theirs: Side
    # Label and options of each way the peer may do it.
    variants: tuple = (("", {}),)
    # Options of the peer while its variants are compared.
    probe: dict = field(default_factory=dict)
    # Our peak memory by the peer's, at most.
    memory_goal: float | None = None
    model: str = "smollm-135m"


BF16 = (("bf16 weights", {"bf16-by": "weights"}), ("autocast", {"bf16-by": "autocast"}))
COMPILE = tuple((f"{label} + torch.compile", {**options, "compile": True}) for label, options in BF16)


def _lora(name):
    return {"lora-rank": LORA_RANK} if name else {}


def _train(name, precision, goal, memory_goal, peer, variants, lora=False):
    adapters = _lora(lora)
    return Workload(
        name, precision, "tokens/s", goal,
        Side("train", {"repeat": 3, "warmup": 2, **adapters}, {"repeat": 1, "warmup": 1, "length": 64}),
        peer,
        Side("train_torch", {"repeat": 3, "warmup": 2, **adapters}, {"repeat": 1, "warmup": 1, "length": 64}),
        variants, {"repeat": 2}, memory_goal,
    )  # fmt: skip


def _dpo(kind, precision):
    adapters = _lora(kind == "lora")
    return Workload(
        f"dpo-{kind}-{precision}", precision, "pairs/s", 6.0,
        Side("dpo", {"repeat": 1, **adapters}, {"prompts": 1, "length": 16}),
        "TRL DPOTrainer",
        # A cut epoch: one step to warm up and two that count, of the eight there are.
        Side("dpo_trl", {"repeat": 2, "warmup": 1, **adapters}, {"repeat": 1, "length": 16}),
        (("", {}),) if precision == "f32" else BF16, {"repeat": 1}, 0.5,
    )  # fmt: skip


def _decode(samples, precision, program, peer, goal, variants):
    peer_name = {"decode_transformers": "transformers", "decode_llamacpp": "llamacpp"}[program]
    quick = {"repeat": 1, "warmup": 0, "new-tokens": 4}
    return Workload(
        f"decode{samples}-{precision}-{peer_name}", precision, "tokens/s", goal,
        Side("decode", {"samples": samples, "repeat": 3}, quick),
        peer, Side(program, {"samples": samples, "repeat": 3}, quick), variants, {"repeat": 2},
    )  # fmt: skip


FLASH_ATTENTION = tuple((f"flash attention {way}", {"flash-attention": way}) for way in ("on", "off"))
# Repacked 8-bit weights use AMX where there is any, and llama.cpp's products with them fail on some of these processors.
NO_REPACKING = tuple((f"{way}, no repacking", {**options, "no-repacking": True}) for way, options in FLASH_ATTENTION)
GENERATION = (("generate", {}), ("continuous batching", {"continuous-batching": True}))


def _feedback(precision):
    return Workload(
        f"feedback-{precision}", precision, "levels/s", 6.0,
        Side("feedback", {"repeat": 1}, {"responses": 2, "warmup": 0}),
        "transformers",
        Side("feedback_transformers", {"repeat": 1}, {"responses": 2, "warmup": 0}),
        tuple((f"batch {batch}", {"batch": batch}) for batch in (8, 1, 2, 30)), {"responses": 10},
    )  # fmt: skip




EAGER_OR_COMPILED = (("f32, eager", {"precision": "f32"}), ("f32, torch.compile", {"precision": "f32", "compile": True}))


def _tiny_train(name, precision, goal, options):
    """With vocabularies this small, and sequences this short, PyTorch may be faster in f32: in bf16 it may choose."""
    sides = [Side(program, {"batch": 32, **options}, {"repeat": 1}) for program in ("train", "train_torch")]
    variants = EAGER_OR_COMPILED + (BF16 + COMPILE if precision == "bf16" else ())
    return Workload(
        name, precision, "tokens/s", goal, sides[0], "PyTorch", sides[1], variants, {"repeat": 1}, model="word-4m"
    )  # fmt: skip


def _tiny_sample(precision):
    """As above, transformers may be faster in f32."""
    options = {"prompts": 64, "samples": 8, "prompt-tokens": 64, "new-tokens": 40, "repeat": 3}
    quick = {"prompts": 4, "repeat": 1, "warmup": 0}
    variants = tuple(
        (f"{other}, {prompts} prompts a call", {"precision": other, "prompts-per-call": prompts})
        for other in dict.fromkeys(("f32", precision))
        for prompts in (16, 4, 64)
    )  # fmt: skip
    return Workload(
        f"tiny-sample-{precision}", precision, "tokens/s", 5.0,
        Side("decode", options, quick),
        "transformers generate", Side("decode_transformers", options, quick), variants, {"repeat": 1}, model="word-4m",
    )  # fmt: skip


WORKLOADS = [
    _train("train-f32", "f32", 1.15, 0.75, "PyTorch eager", (("", {}),)),
    _train("train-bf16", "bf16", 1.15, 0.85, "PyTorch", BF16 + COMPILE),
    _train("lora-bf16", "bf16", 1.4, 0.5, "PEFT", BF16 + COMPILE, lora=True),
    _dpo("full", "f32"),
    _dpo("full", "bf16"),
    _dpo("lora", "f32"),
    _dpo("lora", "bf16"),
    _decode(16, "bf16", "decode_transformers", "transformers", 4.0, GENERATION),
    _decode(16, "bf16", "decode_llamacpp", "llama.cpp", 1.5, FLASH_ATTENTION),
    _decode(1, "bf16", "decode_llamacpp", "llama.cpp", 1.0, FLASH_ATTENTION),
    _decode(1, "int8", "decode_llamacpp", "llama.cpp q8_0", 1.1, FLASH_ATTENTION + NO_REPACKING),
    _feedback("f32"),
    _feedback("bf16"),
    *(
        _tiny_train(f"tiny-train-{precision}", precision, 3.0, {"lengths": WORD_PROBLEM_LENGTHS, "repeat": 5, "warmup": 1})
        for precision in ("f32", "bf16")
    ),
    _tiny_train("tiny-train-even", "f32", None, {"length": 64, "repeat": 40, "warmup": 5}),
    _tiny_sample("f32"),
    _tiny_sample("bf16"),
]  # fmt: skip

# The whole of examples/word-problems; see `example`.
EXAMPLE = "example"


def select(only):
    """The names of all workloads that one of these names, separated by commas, begins."""
    names = [workload.name for workload in WORKLOADS] + [EXAMPLE]
    if only is None:
        return names
    prefixes = only.split(",")
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in names):
            raise SystemExit(f"error: no workload begins with {prefix}; there are: {', '.join(names)}")
    return [name for name in names if any(name.startswith(prefix) for prefix in prefixes)]
