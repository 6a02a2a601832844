"""Tiny random decoders: large enough to reach every branch of a family, small enough to commit."""

import math
import shutil
from pathlib import Path

import torch


def randomize(model, seed):
    """Parameters that leave no term of the forward invisible.

    The usual initialisation (0.02 for matrices, ones for norms, zeros for biases) gives logits near zero and hides
    a forgotten norm weight or bias.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter.copy_(1.0 + 0.2 * noise)
            elif name.endswith(".bias"):
                parameter.copy_(0.3 * noise)
            elif "embed_tokens" in name:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(1.2 * noise / math.sqrt(parameter.shape[1]))


def empty_folder(folder):
    """A fresh `folder`, so that no file of an earlier run survives in a fixture."""
    folder = Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def gradients(model):
    """`grad.<name>` of every parameter after a backward."""
    return {f"grad.{name}": parameter.grad.detach().float().contiguous() for name, parameter in model.named_parameters()}
