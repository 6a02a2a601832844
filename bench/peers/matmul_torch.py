"""Matrix products of PyTorch in the shapes of a model's linear layers, x[rows, in] @ w[out, in]^T; beside
`rlrf bench matmul`.

    python matmul_torch.py --model smollm-135m --precision bf16
"""

import statistics

from common import Stopwatch, emit, import_torch, measure, parser, versions

GFLOP_PER_MEASUREMENT = 1.0
MANY_ROWS = 256  # with fewer, weights have to come from memory as in a whole model

arguments = parser(__doc__)
arguments.add_argument("--rows", type=lambda text: [int(rows) for rows in text.split(",")], default=[1, 16, 1024])
arguments = arguments.parse_args()

torch = import_torch(arguments.threads)
from transformers import AutoConfig

config = AutoConfig.from_pretrained(arguments.model)
hidden, intermediate = config.hidden_size, config.intermediate_size
dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[arguments.precision]
products, total_gflop, total_seconds = [], 0.0, 0.0
whole = Stopwatch()
for rows in arguments.rows:
    for inputs, outputs in [(hidden, intermediate), (intermediate, hidden), (hidden, hidden)]:
        x = torch.randn(rows, inputs).to(dtype)
        count = config.num_hidden_layers if rows < MANY_ROWS else 1
        weights = [torch.randn(outputs, inputs).to(dtype) for _ in range(count)]
        gflop = 2 * rows * inputs * outputs / 1e9
        rounds = max(1, round(GFLOP_PER_MEASUREMENT / gflop / count))

        @torch.no_grad()
        def run():
            for _ in range(rounds):
                for weight in weights:
                    torch.nn.functional.linear(x, weight)

        seconds = statistics.median(measure(run, arguments.warmup, arguments.repeat).seconds) / rounds / count
        total_gflop += gflop
        total_seconds += seconds
        products.append(
            {"operation": "linear", "rows": rows, "in": inputs, "out": outputs, "weights": count,
             "microseconds": seconds * 1e6, "gflops": gflop / seconds}
        )  # fmt: skip
whole.seconds = [total_seconds]
emit("matmul", versions("torch"), arguments, total_gflop, "GFLOP", whole, details=products)
