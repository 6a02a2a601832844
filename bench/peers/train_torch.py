"""Training steps in PyTorch: mean cross-entropy over every token, forward + backward + fused AdamW.

    python train_torch.py --model smollm-135m --precision bf16 --bf16-by autocast --compile
"""

from common import emit, import_torch, load_model, lora_config, measure, parser, random_tokens, versions

arguments = parser(__doc__)
arguments.add_argument("--bf16-by", choices=["weights", "autocast"], default="weights")
arguments.add_argument("--compile", action="store_true", help="torch.compile")
arguments.add_argument("--lora-rank", type=int, default=0)
arguments.add_argument("--batch", type=int, default=4)
arguments.add_argument("--length", type=int, default=256)
arguments = arguments.parse_args()

torch = import_torch(arguments.threads)
autocast = arguments.precision == "bf16" and arguments.bf16_by == "autocast"
model = load_model(torch, arguments.model, "f32" if autocast else arguments.precision)
model.config.use_cache = False
vocab_size = model.config.vocab_size
packages = ["torch", "transformers"]
if arguments.lora_rank:
    from peft import get_peft_model

    model = get_peft_model(model, lora_config(arguments.lora_rank))
    packages.append("peft")
model.train()
optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-6, fused=True)
tokens = random_tokens(torch, vocab_size, arguments.batch, arguments.length + 1)
inputs, targets = tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
forward = torch.compile(model) if arguments.compile else model


def step():
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = forward(input_ids=inputs, use_cache=False).logits
        loss = torch.nn.functional.cross_entropy(logits.float().view(-1, vocab_size), targets.view(-1))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


stopwatch = measure(step, arguments.warmup, arguments.repeat)
emit(
    "train", versions(*packages), arguments, arguments.batch * arguments.length, "tokens", stopwatch,
    batch=arguments.batch, length=arguments.length, lora_rank=arguments.lora_rank or None,
    bf16_by=arguments.bf16_by if arguments.precision == "bf16" else None, compile=arguments.compile,
)
