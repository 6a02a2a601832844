"""Training steps in PyTorch: mean cross-entropy, forward + backward + fused AdamW. Over sequences of one length the loss is on
every token. With `--lengths` a repetition is an epoch over sequences of those lengths in random batches, padded to the
longest of each; the loss, and the language head, are on the completions only.

    python train_torch.py --model smollm-135m --precision bf16 --bf16-by autocast --compile
"""

import random

from common import emit, import_torch, load_model, lora_config, measure, parser, random_tokens, versions

arguments = parser(__doc__)
arguments.add_argument("--bf16-by", choices=["weights", "autocast"], default="weights")
arguments.add_argument("--compile", action="store_true", help="torch.compile")
arguments.add_argument("--lora-rank", type=int, default=0)
arguments.add_argument("--batch", type=int, default=4, help="sequences per step")
arguments.add_argument("--length", type=int, default=256, help="tokens per sequence")
arguments.add_argument("--lengths", help="file: tokens of the prompt and of the completion, a sequence a line")
arguments = arguments.parse_args()

torch = import_torch(arguments.threads)
autocast = arguments.precision == "bf16" and arguments.bf16_by == "autocast"
model = load_model(torch, arguments.model, "f32" if autocast else arguments.precision)
model.config.use_cache = False
vocab_size = model.config.vocab_size
software = versions("torch", "transformers")
if arguments.lora_rank:
    from peft import get_peft_model

    model = get_peft_model(model, lora_config(arguments.lora_rank))
    software += ", " + versions("peft")
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6, fused=True)
compiled = torch.compile if arguments.compile else lambda module: module
if arguments.lengths:
    assert not arguments.lora_rank, "adapters wrap the model: --lengths is for the model itself"
    body = compiled(model.model)
else:
    forward = compiled(model)


def train(inputs, targets):
    """A step, on the targets that are not negative."""
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        if arguments.lengths:
            # Padding stands behind what is learnt, so that causal attention needs no other mask.
            hidden = body(input_ids=inputs, use_cache=False)[0]
            logits, targets = model.lm_head(hidden[targets >= 0]), targets[targets >= 0]
        else:
            logits = forward(input_ids=inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().view(-1, vocab_size), targets.reshape(-1))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def padded(lengths):
    """Inputs and targets of a batch of sequences."""
    longest = max(prompt + completion for prompt, completion in lengths)
    tokens = random_tokens(torch, vocab_size, len(lengths), longest)
    positions = torch.arange(longest)
    prompts, ends = (torch.tensor(side)[:, None] for side in zip(*((p, p + c) for p, c in lengths)))
    targets = tokens.masked_fill((positions < prompts) | (positions >= ends), -100)
    return tokens[:, :-1], targets[:, 1:]


if arguments.lengths:
    with open(arguments.lengths) as lines:
        lengths = [tuple(map(int, line.split())) for line in lines]
    random.Random(0).shuffle(lengths)
    starts = range(0, len(lengths), arguments.batch)
    batches = [padded(lengths[start : start + arguments.batch]) for start in starts]
    tokens = sum(prompt + completion - 1 for prompt, completion in lengths)
else:
    rows = random_tokens(torch, vocab_size, arguments.batch, arguments.length + 1)
    batches = [(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())]
    tokens = arguments.batch * arguments.length


def work():
    for batch in batches:
        train(*batch)


stopwatch = measure(work, arguments.warmup, arguments.repeat)
emit(
    "train", software, arguments, tokens, "tokens", stopwatch,
    batch=arguments.batch, length=None if arguments.lengths else arguments.length, lengths=arguments.lengths,
    steps_per_repetition=len(batches), padded_tokens=sum(batch[0].numel() for batch in batches),
    lora_rank=arguments.lora_rank or None, bf16_by=arguments.bf16_by if arguments.precision == "bf16" else None,
    compile=arguments.compile,
)  # fmt: skip
