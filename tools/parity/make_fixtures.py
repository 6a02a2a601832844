"""Writes every parity fixture that needs no outside data. See README.md."""

from pathlib import Path

import torch
from transformers.utils import logging

import families
import lora
import losses
import objectives
import rewards

CRATES = Path(__file__).resolve().parents[2] / "crates"


def main():
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    families.make(CRATES / "rlrf-model/tests/fixtures/parity")
    lora.make(CRATES / "rlrf-model/tests/fixtures/parity", CRATES / "rlrf-model/tests/fixtures/lora")
    objectives.make(CRATES / "rlrf-train/tests/fixtures/objectives")
    losses.make(CRATES / "rlrf-train/tests/fixtures/objectives", CRATES / "rlrf-train/tests/fixtures/losses")
    rewards.make(CRATES / "rlrf-model/tests/fixtures/reward", CRATES / "rlrf-train/tests/fixtures/reward")


if __name__ == "__main__":
    main()
