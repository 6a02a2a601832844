"""Sampling with llama.cpp, end to end, at temperature 1: the prompt computed once and shared by all samples, one batch of
all samples per token. Python only calls; llama.cpp computes and draws. `--model` is the folder whose GGUF files,
`FOLDER-bf16.gguf` and `FOLDER-q8_0.gguf`, lie beside it.

    PYTHONPATH=llama_cpp_python-0.3.36 LLAMA_CPP_LIB_PATH=.../build/bin \
        python decode_llamacpp.py --model smollm-135m --precision bf16 --samples 16
"""

import llama_cpp
import numpy

from common import VOCAB_OF_RANDOM_TOKENS_STARTS_AT, emit, measure, parser

GGUF_TYPES = {"f32": "f32", "bf16": "bf16", "int8": "q8_0"}
FLASH_ATTENTION = {"auto": -1, "off": 0, "on": 1}

arguments = parser(__doc__, GGUF_TYPES)
arguments.add_argument("--samples", type=int, default=16)
arguments.add_argument("--prompt-tokens", type=int, default=128)
arguments.add_argument("--new-tokens", type=int, default=64)
arguments.add_argument("--flash-attention", choices=FLASH_ATTENTION, default="auto")
arguments.add_argument("--no-repacking", action="store_true", help="weights as the file has them, without AMX")
arguments = arguments.parse_args()
samples, prompt_tokens = arguments.samples, arguments.prompt_tokens

llama_cpp.llama_backend_init()
gguf = f"{arguments.model}-{GGUF_TYPES[arguments.precision]}.gguf"
model_parameters = llama_cpp.llama_model_default_params()
model_parameters.n_gpu_layers = 0
model_parameters.use_extra_bufts = not arguments.no_repacking
model = llama_cpp.llama_model_load_from_file(gguf.encode(), model_parameters)
assert model, f"{gguf}: cannot be loaded"
vocab_size = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))

parameters = llama_cpp.llama_context_default_params()
parameters.n_ctx, parameters.n_batch, parameters.n_ubatch = 4096, 2048, 512
parameters.n_seq_max, parameters.kv_unified = samples, True
parameters.n_threads = parameters.n_threads_batch = arguments.threads
parameters.flash_attn_type = FLASH_ATTENTION[arguments.flash_attention]
context = llama_cpp.llama_init_from_model(model, parameters)
assert context, "no context could be made"
memory = llama_cpp.llama_get_memory(context)
batch = llama_cpp.llama_batch_init(max(prompt_tokens, samples), 0, 1)
sampler = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
llama_cpp.llama_sampler_chain_add(sampler, llama_cpp.llama_sampler_init_temp(1.0))
llama_cpp.llama_sampler_chain_add(sampler, llama_cpp.llama_sampler_init_dist(1))
prompt = numpy.random.default_rng(0).integers(VOCAB_OF_RANDOM_TOKENS_STARTS_AT, vocab_size, prompt_tokens)


def compute(rows):
    """Rows are (token, position, sequence, whether its logits are wanted)."""
    for i, (token, position, sequence, logits) in enumerate(rows):
        batch.token[i], batch.pos[i], batch.n_seq_id[i] = int(token), position, 1
        batch.seq_id[i][0], batch.logits[i] = sequence, logits
    batch.n_tokens = len(rows)
    assert llama_cpp.llama_decode(context, batch) == 0, "llama_decode failed"


def work():
    llama_cpp.llama_memory_clear(memory, True)
    compute([(token, i, 0, i == prompt_tokens - 1) for i, token in enumerate(prompt)])
    drawn = [llama_cpp.llama_sampler_sample(sampler, context, prompt_tokens - 1) for _ in range(samples)]
    for sample in range(1, samples):
        llama_cpp.llama_memory_seq_cp(memory, 0, sample, -1, -1)
    for position in range(prompt_tokens, prompt_tokens + arguments.new_tokens - 1):
        compute([(drawn[sample], position, sample, True) for sample in range(samples)])
        drawn = [llama_cpp.llama_sampler_sample(sampler, context, sample) for sample in range(samples)]


stopwatch = measure(work, arguments.warmup, arguments.repeat)
emit(
    "decode", f"llama-cpp-python {llama_cpp.__version__}", arguments, samples * arguments.new_tokens, "tokens", stopwatch,
    gguf=gguf, samples=samples, prompt_tokens=prompt_tokens,
    new_tokens=arguments.new_tokens, flash_attention=arguments.flash_attention, temperature=1.0,
    repacking=not arguments.no_repacking,
)
