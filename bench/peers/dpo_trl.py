"""An epoch of TRL's DPOTrainer, reference pass included. 64 pairs = 8 prompts x 8 pairs, drawn from 4 chosen x 4 rejected
candidates of that prompt, each candidate in two pairs; prompts and candidates are 128 tokens each, given as ids.

A step is one optimizer update on 8 pairs, the pairs of one prompt's worth, in two passes of 4. With `--repeat` below 8 the epoch is
cut short, and the rate is that of its steps.

    python dpo_trl.py --model smollm-135m --precision bf16 --bf16-by autocast --lora-rank 16 --repeat 2
"""

import random
import tempfile

from common import VOCAB_OF_RANDOM_TOKENS_STARTS_AT, Stopwatch, emit, import_torch, load_model, lora_config, parser, versions

CHOSEN = 4
PAIRS = 8

arguments = parser(__doc__)
arguments.add_argument("--bf16-by", choices=["weights", "autocast"], default="autocast")
arguments.add_argument("--lora-rank", type=int, default=0)
arguments.add_argument("--prompts", type=int, default=8)
arguments.add_argument("--length", type=int, default=128)
arguments.add_argument("--batch", type=int, default=4, help="pairs that pass through the model together")
arguments = arguments.parse_args()

torch = import_torch(arguments.threads)
from datasets import Dataset
from transformers import AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer

autocast = arguments.precision == "bf16" and arguments.bf16_by == "autocast"
tokenizer = AutoTokenizer.from_pretrained(arguments.model)
model = load_model(torch, arguments.model, "f32" if autocast else arguments.precision)


def pairs():
    generator = random.Random(0)

    def tokens():
        first, last = VOCAB_OF_RANDOM_TOKENS_STARTS_AT, model.config.vocab_size
        return [generator.randrange(first, last) for _ in range(arguments.length)]

    for _ in range(arguments.prompts):
        prompt = tokens()
        chosen, rejected = [[tokens() for _ in range(CHOSEN)] for _ in range(2)]
        for pair in range(PAIRS):
            yield {
                "prompt_ids": prompt,
                "chosen_ids": chosen[pair % CHOSEN],
                "rejected_ids": rejected[(pair + pair // CHOSEN) % CHOSEN],
            }


class Watch(TrainerCallback):
    """Times the steps after the warm-up."""

    stopwatch = None

    def on_step_end(self, _arguments, state, _control, **_):
        if state.global_step > arguments.warmup:
            self.stopwatch.lap()
        elif state.global_step == arguments.warmup:
            self.stopwatch = Stopwatch()


class IdsDPOTrainer(DPOTrainer):
    """The data holds token ids already: skips the preparation of text; all else is TRL's own."""

    def _prepare_dataset(self, dataset, *_arguments, **_):
        return dataset


assert arguments.warmup >= 1, "the first step allocates: it needs a warm-up"
with tempfile.TemporaryDirectory() as folder:
    config = DPOConfig(
        output_dir=folder, per_device_train_batch_size=arguments.batch,
        gradient_accumulation_steps=PAIRS // arguments.batch, num_train_epochs=1,
        max_steps=arguments.warmup + arguments.repeat, max_length=None, bf16=autocast, fp16=False,
        gradient_checkpointing=False, use_cpu=True, learning_rate=1e-6, beta=0.1, logging_steps=1,
        save_strategy="no", report_to="none", optim="adamw_torch_fused", disable_tqdm=True,
        dataloader_num_workers=0, seed=0,
    )  # fmt: skip
    watch = Watch()
    trainer = IdsDPOTrainer(
        model=model, args=config, train_dataset=Dataset.from_list(list(pairs())), processing_class=tokenizer,
        peft_config=lora_config(arguments.lora_rank) if arguments.lora_rank else None, callbacks=[watch],
    )  # fmt: skip
    trainer.train()

emit(
    "dpo", versions("torch", "transformers", "trl", "peft"), arguments, PAIRS, "pairs", watch.stopwatch,
    pairs=PAIRS * arguments.prompts, pairs_per_step=PAIRS, steps_per_epoch=arguments.prompts,
    length=arguments.length, batch=arguments.batch, lora_rank=arguments.lora_rank or None,
    bf16_by=arguments.bf16_by if arguments.precision == "bf16" else None,
)
