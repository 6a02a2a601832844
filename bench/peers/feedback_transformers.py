"""Levels of many responses to one instruction with transformers: one forward per prompt, batched, no prefix shared, logits of
the last position only, of which the level tokens' are read.

    python feedback_transformers.py --model smollm-135m --precision bf16 --batch 8
"""

from common import emit, import_torch, load_model, measure, parser, random_tokens, versions

LEVELS = 3

arguments = parser(__doc__)
arguments.add_argument("--responses", type=int, default=30)
arguments.add_argument("--aspects", type=int, default=3)
arguments.add_argument("--shared-tokens", type=int, default=400)
arguments.add_argument("--response-tokens", type=int, default=100)
arguments.add_argument("--aspect-tokens", type=int, default=8)
arguments.add_argument("--batch", type=int, default=8, help="prompts that pass through the model together")
arguments = arguments.parse_args()

torch = import_torch(arguments.threads)
model = load_model(torch, arguments.model, arguments.precision).eval()
vocab_size = model.config.vocab_size
levels = random_tokens(torch, vocab_size, LEVELS)
shared = random_tokens(torch, vocab_size, arguments.shared_tokens)
aspects = random_tokens(torch, vocab_size, arguments.aspects, arguments.aspect_tokens)
responses = random_tokens(torch, vocab_size, arguments.responses, arguments.response_tokens)
prompts = torch.stack([torch.cat([shared, response, aspect]) for response in responses for aspect in aspects])


@torch.no_grad()
def read_levels(batch):
    logits = model(input_ids=batch, use_cache=False, logits_to_keep=1).logits[:, -1, levels]
    return torch.softmax(logits.float(), dim=-1)


def work():
    read = torch.cat([read_levels(batch) for batch in prompts.split(arguments.batch)])
    assert read.shape == (len(prompts), LEVELS)


for _ in range(arguments.warmup):  # a batch is enough: the others are like it
    read_levels(prompts[: arguments.batch])
stopwatch = measure(work, 0, arguments.repeat)
emit(
    "feedback", versions("torch", "transformers"), arguments, len(prompts), "levels", stopwatch,
    responses=arguments.responses, aspects=arguments.aspects, shared_tokens=arguments.shared_tokens,
    response_tokens=arguments.response_tokens, aspect_tokens=arguments.aspect_tokens, batch=arguments.batch,
)
