"""Sampling with transformers, end to end, at temperature 1: `generate`, or continuous batching (`generate_batch`).

    python decode_transformers.py --model smollm-135m --precision bf16 --samples 16
"""

from common import emit, import_torch, load_model, measure, parser, random_tokens, versions

arguments = parser(__doc__)
arguments.add_argument("--prompts", type=int, default=1)
arguments.add_argument("--samples", type=int, default=16, help="samples of each prompt")
arguments.add_argument("--prompt-tokens", type=int, default=128)
arguments.add_argument("--new-tokens", type=int, default=64)
arguments.add_argument("--prompts-per-call", type=int, default=1)
arguments.add_argument("--continuous-batching", action="store_true")
arguments = arguments.parse_args()

torch = import_torch(arguments.threads)
from transformers import GenerationConfig

model = load_model(torch, arguments.model, arguments.precision).eval()
model.generation_config.eos_token_id = None
prompts = random_tokens(torch, model.config.vocab_size, arguments.prompts, arguments.prompt_tokens)
settings = {
    "do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "pad_token_id": 0, "bos_token_id": 1,
    "max_new_tokens": arguments.new_tokens, "num_return_sequences": arguments.samples,
}  # fmt: skip


def generate():
    config = GenerationConfig(**settings)
    config.eos_token_id, config.disable_compile = None, True
    drawn = 0
    with torch.no_grad():
        for batch in prompts.split(arguments.prompts_per_call):
            tokens = model.generate(batch, generation_config=config, attention_mask=torch.ones_like(batch))
            drawn += tokens.shape[0] * (tokens.shape[1] - arguments.prompt_tokens)
    return drawn


def generate_continuously():
    from transformers import ContinuousBatchingConfig

    config = GenerationConfig(**settings, eos_token_id=-1)
    batching = ContinuousBatchingConfig(page_size=64, num_blocks=256, max_batch_tokens=1024, seed=0)
    outputs = model.generate_batch(
        inputs=prompts.tolist(), generation_config=config, continuous_batching_config=batching,
        progress_bar=False, warmup=False,
    )  # fmt: skip
    return sum(len(output.generated_tokens) for output in outputs.values())


expected = arguments.prompts * arguments.samples * arguments.new_tokens


def work():
    drawn = generate_continuously() if arguments.continuous_batching else generate()
    assert drawn == expected, f"{drawn} tokens drawn in place of {expected}"


stopwatch = measure(work, arguments.warmup, arguments.repeat)
emit(
    "decode", versions("torch", "transformers"), arguments, expected, "tokens", stopwatch,
    prompts=arguments.prompts, samples=arguments.samples, prompt_tokens=arguments.prompt_tokens,
    new_tokens=arguments.new_tokens, prompts_per_call=arguments.prompts_per_call,
    continuous_batching=arguments.continuous_batching, temperature=1.0,
)
