"""What the measurements share: arguments, timing, memory, and one line of JSON, in the form of `rlrf bench --json`."""

import argparse
import importlib.metadata
import json
import os
import statistics
import time

VOCAB_OF_RANDOM_TOKENS_STARTS_AT = 5  # below are special tokens


def parser(description, precisions=("f32", "bf16")):
    """The arguments that every measurement takes."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("--model", required=True, help="model folder")
    arguments.add_argument("--precision", choices=precisions, default="f32")
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--warmup", type=int, default=1, help="repetitions before those that are measured")
    arguments.add_argument("--repeat", type=int, default=5, help="repetitions that are measured")
    return arguments


def import_torch(threads):
    """torch on the CPU, with the same random numbers in every process."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    return torch


def load_model(torch, folder, precision):
    """The model with weights in that precision, scaled-dot-product attention."""
    from transformers import AutoModelForCausalLM

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")


def lora_config(rank):
    """Adapters on all linear layers."""
    from peft import LoraConfig

    projections = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    return LoraConfig(
        r=rank, lora_alpha=2 * rank, lora_dropout=0.0, task_type="CAUSAL_LM", target_modules=projections
    )


def random_tokens(torch, vocab_size, *shape):
    return torch.randint(VOCAB_OF_RANDOM_TOKENS_STARTS_AT, vocab_size, shape)


class Load:
    """Watches, from its making on, how many cores other processes keep busy."""

    def __init__(self):
        self.at, self.busy, self.own = time.perf_counter(), *self._read()

    @staticmethod
    def _read():
        """Seconds that all cores were busy, and seconds that this process used."""
        with open("/proc/stat") as stat:
            ticks = [int(value) for value in stat.readline().split()[1:9]]
        own = os.times()
        own = own.user + own.system + own.children_user + own.children_system
        return (sum(ticks) - ticks[3] - ticks[4]) / os.sysconf("SC_CLK_TCK"), own

    def others_cores(self):
        seconds = time.perf_counter() - self.at
        busy, own = self._read()
        return max(0.0, ((busy - self.busy) - (own - self.own)) / max(seconds, 1e-9))


class Stopwatch:
    """Seconds of each repetition, from the end of the warm-up on."""

    def __init__(self):
        self.seconds, self.load, self.last = [], Load(), time.perf_counter()

    def lap(self):
        now = time.perf_counter()
        self.seconds.append(now - self.last)
        self.last = now


def measure(work, warmup, repeat):
    """Times `work()`."""
    for _ in range(warmup):
        work()
    stopwatch = Stopwatch()
    for _ in range(repeat):
        work()
        stopwatch.lap()
    return stopwatch


def versions(*packages):
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


def emit(workload, software, arguments, amount, unit, stopwatch, details=None, **settings):
    """Prints the measurement; each repetition did `amount` of `unit`."""
    median = statistics.median(stopwatch.seconds)
    row = {
        "workload": workload,
        "software": software,
        "model": arguments.model,
        "precision": arguments.precision,
        "unit": f"{unit}/s",
        "rate": amount / median,
        "seconds": stopwatch.seconds,
        "seconds_median": median,
        "peak_rss_mib": _field("/proc/self/status", "VmHWM", lambda value: int(value.split()[0]) / 1024),
        "threads": arguments.threads,
        "cpu": _field("/proc/cpuinfo", "model name", str),
        "others_cores": stopwatch.load.others_cores(),
        "settings": {**settings, "tuned_allocator": "MALLOC_MMAP_MAX_" in os.environ},
        "details": details,
    }
    print(json.dumps(row), flush=True)


def _field(path, name, convert):
    with open(path) as lines:
        for line in lines:
            found, _, value = line.partition(":")
            if found.strip() == name:
                return convert(value.strip())
    return None
