"""Logits, loss and gradients of PEFT's LoRA, as a fixture of `rlrf-model`."""

import json

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

from families import BATCH, TIME, VOCABULARY, expected, load
from models import empty_folder

BASE = "llama-untied"
PREFIX = "base_model.model."


def adapted(base):
    """Adapters on four of the seven projections, none of their matrices zero."""
    config = LoraConfig(
        r=3, lora_alpha=5, target_modules=["q_proj", "v_proj", "o_proj", "down_proj"], lora_dropout=0.0, bias="none",
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(base, config)
    generator = torch.Generator().manual_seed(77)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                parameter.copy_(0.4 * torch.randn(parameter.shape, generator=generator))
    return model


def make(parity, folder):
    """Writes the adapter as PEFT does, and what the adapted model computes."""
    folder = empty_folder(folder)
    adapted(load(parity / BASE, torch.float32)).save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text())
    # PEFT writes a set, in any order, and the path of this machine.
    config.update(target_modules=sorted(config["target_modules"]), base_model_name_or_path=f"../parity/{BASE}")
    path.write_text(json.dumps(config, indent=2) + "\n")

    input_ids = torch.randint(0, VOCABULARY, (BATCH, TIME), generator=torch.Generator().manual_seed(78))
    # From the folder alone, so that what is expected is what the files say.
    model = PeftModel.from_pretrained(load(parity / BASE, torch.float32), folder, is_trainable=True).eval()
    values = expected(model, input_ids, gradients_of=adapter_gradients)
    save_file(values, folder / "expected.safetensors")
    print(f"{folder.name}: loss {values['loss'].item():.4f}")


def adapter_gradients(model):
    """`grad.<name>` of every matrix, by the names of the adapter's file."""
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            name = name.removeprefix(PREFIX).replace(".default", "")
            found[f"grad.{name}"] = parameter.grad.detach().float().contiguous()
    return found
