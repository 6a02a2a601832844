"""How fast a workload could be at most: its arithmetic at the speed of the fastest matrix product that was measured, its
weights at the speed at which a product with one row reads them, whichever takes longer.

Counted is what the mathematics asks for: no token twice that prompts or pairs share, no padding, no recomputation. A multiplication and
an addition are two operations. Softmax, norms and AdamW's arithmetic are left out; AdamW's bytes are in.
"""

from dataclasses import dataclass

from comparison.workloads import WORD_PROBLEM_LENGTHS

BYTES = {"f32": 4, "bf16": 2, "int8": 1}
# Master weights and two moments in f32, read and written, and the gradient read.
ADAMW_BYTES = 4 * 7


@dataclass(frozen=True)
class Shape:
    """A decoder, from its config.json."""

    hidden: int
    intermediate: int
    layers: int
    queries: int  # heads times their dimension
    key_values: int
    vocab: int

    @classmethod
    def of(cls, config):
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        return cls(
            config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"],
            config["num_attention_heads"] * head, config["num_key_value_heads"] * head, config["vocab_size"],
        )  # fmt: skip

    @property
    def body(self):
        """Weights of all layers' matrices."""
        attention = self.hidden * (2 * self.queries + 2 * self.key_values)
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    @property
    def head(self):
        return self.hidden * self.vocab

    @property
    def adapter_per_rank(self):
        """Weights of LoRA on all linear layers, for each of its rank."""
        h, i, q, kv = self.hidden, self.intermediate, self.queries, self.key_values
        return self.layers * (2 * (h + q) + 2 * (h + kv) + 3 * (h + i))

    def attention(self, pairs, last_pairs):
        """Operations of attention over so many pairs of query and key in each layer but the last, and so many there."""
        return 4 * (pairs * (self.layers - 1) + last_pairs) * self.queries

    def forward(self, rows, head_rows, pairs, last_pairs):
        """Of rows of which so many are predicted from: the last layer needs of the others keys and values alone."""
        for_outputs = self.hidden * (2 * self.queries + 3 * self.intermediate)
        left_out = max(rows - head_rows, 0) * for_outputs
        return 2 * (rows * self.body - left_out + head_rows * self.head) + self.attention(pairs, last_pairs)


@dataclass(frozen=True)
class Work:
    """Phases of (operations, bytes), and what they achieve together, such as tokens."""

    phases: list
    amount: float

    def floor(self, gflops, gigabytes_per_second):
        """The rate at most, and what bounds most of it."""
        arithmetic = [operations / gflops / 1e9 for operations, _ in self.phases]
        memory = [size / gigabytes_per_second / 1e9 for _, size in self.phases]
        seconds = sum(map(max, arithmetic, memory))
        by_memory = sum(size for size, other in zip(memory, arithmetic) if size > other)
        return self.amount / seconds, "memory" if by_memory > seconds / 2 else "arithmetic"


def causal(length):
    return length * (length + 1) // 2


def _training_phase(shape, precision, rows, head_rows, pairs, last_pairs, rank, reference=False):
    """A step, and the reference's forward pass where there is one."""
    forward = shape.forward(rows, head_rows, pairs, last_pairs)
    size = BYTES[precision]
    weights = shape.body + shape.head
    if rank:
        # Backward: the gradient of the inputs, not of the frozen weights. Attention has no weights to save on.
        operations = 2 * forward + shape.attention(pairs, last_pairs) + 6 * rows * rank * shape.adapter_per_rank
        moved = 2 * weights * size + rank * shape.adapter_per_rank * ADAMW_BYTES
    else:
        operations = 3 * forward
        moved = 3 * weights * size + weights * ADAMW_BYTES
    phases = [(operations, moved)]
    if reference:
        phases.append((forward, weights * size))
    return phases


def train(shape, precision, batch, length, rank=None):
    rows, pairs = batch * length, batch * causal(length)
    return Work(_training_phase(shape, precision, rows, rows, pairs, pairs, rank), rows)


def train_lengths(shape, precision, batch, path):
    """An epoch over sequences of different lengths, whose completions are learnt; attention over none of the padding."""
    lengths = [tuple(map(int, line.split())) for line in path.read_text().splitlines()]
    rows, head_rows = sum(p + c - 1 for p, c in lengths), sum(c for _, c in lengths)
    pairs = sum(causal(p + c - 1) for p, c in lengths)
    last_pairs = pairs - sum(causal(p - 1) for p, _ in lengths)
    operations, moved = _training_phase(shape, precision, rows, head_rows, pairs, last_pairs, None)[0]
    return Work([(operations, moved * -(-len(lengths) // batch))], rows)


def dpo(shape, precision, length, rank=None, candidates=8, pairs=8):
    """One prompt with its candidates; the last token of a candidate predicts nothing."""
    branch = length - 1
    rows = length + candidates * branch
    attended = causal(length) + candidates * (branch * length + causal(branch))
    of_outputs = attended - causal(length - 1)
    phases = _training_phase(shape, precision, rows, candidates * length, attended, of_outputs, rank, True)
    return Work(phases, pairs)


def decode(shape, precision, prompts, samples, prompt_tokens, new_tokens):
    """The prompts computed once, then a step per token for all samples; keys and values in two bytes each."""
    size, sequences = BYTES[precision], prompts * samples
    weights = (shape.body + shape.head) * size
    rows, pairs = prompts * prompt_tokens, prompts * causal(prompt_tokens)
    phases = [(shape.forward(rows, prompts, pairs, rows), weights)]
    cache = 2 * 2 * shape.key_values * shape.layers
    for step in range(1, new_tokens):
        keys = prompt_tokens + step
        read = cache * (prompts * prompt_tokens + sequences * step)
        pairs = sequences * keys
        phases.append((shape.forward(sequences, sequences, pairs, pairs), weights + read))
    return Work(phases, sequences * new_tokens)


def feedback(shape, precision, responses=30, aspects=3, shared=400, response=100, aspect=8):
    """What is shared once, each response once, each aspect's question once; a level needs no whole head."""
    rows = shared + responses * (response + aspects * aspect)
    attended = causal(shared) + responses * (response * shared + causal(response))
    attended += responses * aspects * (aspect * (shared + response) + causal(aspect))
    of_outputs = responses * aspects * (shared + response + aspect)
    operations = shape.forward(rows, responses * aspects, attended, of_outputs)
    operations -= 2 * responses * aspects * shape.head
    return Work([(operations, shape.body * BYTES[precision])], responses * aspects)


def of(name, precision, shape):
    """The work of a workload of `workloads`, or none where it is not one with a floor."""
    kind, _, rest = name.partition("-")
    rank = 16 if "lora" in name else None
    if name == "tiny-train-even":
        return train(shape, precision, 32, 64)
    if name.startswith("tiny-train"):
        return train_lengths(shape, precision, 32, WORD_PROBLEM_LENGTHS)
    if name.startswith("tiny-sample"):
        return decode(shape, precision, 64, 8, 64, 40)
    if kind in ("train", "lora"):
        return train(shape, precision, 4, 256, rank)
    if kind == "dpo":
        return dpo(shape, precision, 128, rank)
    if kind.startswith("decode"):
        return decode(shape, precision, 1, int(kind.removeprefix("decode")), 128, 64)
    if kind == "feedback":
        return feedback(shape, precision)
    return None


def speeds(measurements):
    """GFLOP/s by precision and bytes per second, the best of what `bench matmul` or `matmul_torch.py` measured."""
    gflops, bandwidth = {}, 0.0
    for measurement in measurements:
        precision = measurement["precision"]
        for product in measurement["details"]:
            gflops[precision] = max(gflops.get(precision, 0.0), product["gflops"])
            # Packed weights in f32 may take three bytes.
            if product["rows"] == 1 and product["operation"] in ("linear", "packed") and precision != "f32":
                size = product["in"] * product["out"] * BYTES[precision]
                bandwidth = max(bandwidth, size / product["microseconds"] / 1e3)
    return gflops, bandwidth


def markdown(rows, shapes, gflops, bandwidth):
    """Rows of results beside their floors; `shapes` by the name of the model."""
    lines = [
        "| workload | GFLOP each | MB each | floor | bound by | ours | share | theirs | share |",
        "| --- | ---: | ---: | ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        shape = shapes["word-4m" if row["workload"].startswith("tiny") else "smollm-135m"]
        work = of(row["workload"], row["precision"], shape)
        # 8-bit weights are multiplied in the fastest way there is.
        speed = gflops.get(row["precision"], max(gflops.values()))
        if work is None:
            continue
        floor, bound = work.floor(speed, bandwidth)
        operations, moved = (sum(phase[i] for phase in work.phases) / work.amount for i in (0, 1))
        sides = []
        for rate in (row["ours"], row["theirs"]):
            sides += ["-", "-"] if rate is None else [f"{rate:,.4g}", f"{rate / floor:.0%}"]
        lines.append(
            f"| {row['workload']} | {operations / 1e9:.3g} | {moved / 1e6:.3g} | {floor:,.4g} {row['unit']} | {bound} | "
            + " | ".join(sides) + " |"
        )  # fmt: skip
    return "\n".join(lines)
