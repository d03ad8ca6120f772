"""From one GPU to a region: tokens a second, key-value memory, studies a day, by arithmetic.

    python3 scripts/sizing.py                      the tables of docs/scaling.md
    python3 scripts/sizing.py --studies 50000      for so many studies a day

Bounds and estimates, not measurements: a decoding step reads all weights and the keys and values
of every sequence once, and multiplies each weight with one token of each sequence. Whichever
takes longer, memory or arithmetic, bounds the step (the roofline model, Williams et al. 2009); the
host's own work for a step comes on top. Prompts are bound by arithmetic. `make bench` measures
what a machine reaches of it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass

GIB = 2**30
DAY = 86_400.0
HOST_SECONDS = 0.004
"""The scheduler's and the launches' share of a step, an assumption: it bounds small models."""


@dataclass(frozen=True)
class Model:
    """A decoder-only language model.

    Attributes:
        name: for the table.
        parameters: of the transformer and its output layer; an input embedding only looks up.
        layers: transformer blocks.
        kv_heads: heads of keys and values.
        head_dim: width of a head.
    """

    name: str
    parameters: float
    layers: int
    kv_heads: int
    head_dim: int

    def weight_bytes(self, bytes_each: float) -> float:
        """Bytes of the weights."""
        return self.parameters * bytes_each

    def kv_bytes_per_token(self, bytes_each: float) -> float:
        """Bytes of keys and values that one token keeps: two vectors a layer and head."""
        return 2.0 * self.layers * self.kv_heads * self.head_dim * bytes_each


@dataclass(frozen=True)
class Device:
    """What computes.

    Attributes:
        name: for the table.
        bytes_per_second: memory bandwidth.
        flops: products and sums a second, dense, in the weights' type.
        memory: bytes.
        bytes_each: of a weight, a key or a value.
    """

    name: str
    bytes_per_second: float
    flops: float
    memory: float
    bytes_each: float = 2.0


@dataclass(frozen=True)
class Work:
    """One answer.

    Attributes:
        prompt: tokens read, those of the image included.
        answer: tokens written.
        shared: tokens of the prompt that all prompts begin with, kept by prefix caching.
    """

    prompt: int
    answer: int
    shared: int = 0

    @property
    def mean_context(self) -> float:
        """Tokens whose keys and values a decoding step reads, on average over the answer."""
        return self.prompt + self.answer / 2.0


REPORT = Work(prompt=320, answer=120)
IMAGE = Work(prompt=160, answer=256)
"""A radiograph drawn for a report: 256 image tokens."""

MODELS = (
    # Shapes of the shipped checkpoint's llm/config.json; a test compares them.
    Model("demo, 135M", 135e6, 30, 3, 64),
    # The model of the LLM-CXR paper: GPT-NeoX without grouped heads.
    Model("Dolly v2, 3B", 2.8e9, 32, 32, 80),
    Model("Llama 3.1, 8B", 8.0e9, 32, 8, 128),
    Model("Llama 3.1, 70B", 70.6e9, 80, 8, 128),
)
DEVICES = (
    # Assumed for the processor; vendors' data sheets otherwise: bandwidth, dense bfloat16, memory.
    Device("2 CPU cores, float32", 20e9, 0.2e12, 16 * GIB, bytes_each=4.0),
    Device("L4", 300e9, 121e12, 24e9),
    Device("A100 80 GB", 2039e9, 312e12, 80e9),
    Device("H100 SXM", 3350e9, 989e12, 80e9),
    Device("H200", 4800e9, 989e12, 141e9),
    # Tensor parallel: each GPU reads its part of the weights. Their talk is not in it.
    Device("4 x H100 SXM", 4 * 3350e9, 4 * 989e12, 4 * 80e9),
)


def step_seconds(model: Model, device: Device, sequences: int, context: float) -> float:
    """Least time of one decoding step, which gives each sequence one token."""
    weights = model.weight_bytes(device.bytes_each)
    keys = sequences * context * model.kv_bytes_per_token(device.bytes_each)
    memory = (weights + keys) / device.bytes_per_second
    arithmetic = 2.0 * model.parameters * sequences / device.flops
    return max(memory, arithmetic) + HOST_SECONDS


def sequences_in_memory(model: Model, device: Device, context: float, share: float = 0.8) -> int:
    """Sequences whose keys and values fit beside the weights in `share` of the memory."""
    free = share * device.memory - model.weight_bytes(device.bytes_each)
    return max(0, math.floor(free / (context * model.kv_bytes_per_token(device.bytes_each))))


def answer_seconds(model: Model, device: Device, work: Work, sequences: int) -> float:
    """Least time of one answer when `sequences` are worked on at once."""
    prompt = 2.0 * model.parameters * (work.prompt - work.shared) * sequences / device.flops
    return prompt + work.answer * step_seconds(model, device, sequences, work.mean_context)


def answers_per_second(model: Model, device: Device, work: Work, sequences: int) -> float:
    """Most answers a second with `sequences` at once."""
    return sequences / answer_seconds(model, device, work, sequences)


def devices_needed(studies_a_day: float, per_second: float, *, peak: float, use: float) -> int:
    """Devices for so many studies a day.

    Args:
        studies_a_day: reports wanted.
        per_second: of one device, as measured or bound.
        peak: busiest hour over the mean hour.
        use: share of the capacity that may be used at the peak; the rest keeps queues short.
    """
    return max(1, math.ceil(studies_a_day * peak / DAY / (per_second * use)))


def batch_of(model: Model, device: Device, most: int = 256) -> int:
    """Sequences to reckon with: what fits at full length, at most what vLLM is told."""
    return min(most, sequences_in_memory(model, device, 1024))


def tables(efficiency: float, studies: Sequence[int], peak: float, use: float) -> str:
    """All tables as Markdown; a model that does not fit is left out."""
    return "\n\n".join(
        (
            _model_table(),
            _device_table(efficiency),
            _region_table(efficiency, studies, peak, use),
        )
    )


def _model_table() -> str:
    rows = [
        (
            model.name,
            f"{_number(model.weight_bytes(2) / 1e9)} GB",
            f"{model.kv_bytes_per_token(2) / 1024:.0f} KiB",
            f"{1024 * model.kv_bytes_per_token(2) / 2**20:.0f} MiB",
        )
        for model in MODELS
    ]
    return _markdown(("model, bfloat16", "weights", "KV a token", "KV at 1,024 tokens"), rows)


def _device_table(efficiency: float) -> str:
    rows = []
    for device in DEVICES:
        for model in MODELS:
            many = batch_of(model, device)
            if many == 0:
                continue
            one = 1.0 / step_seconds(model, device, 1, REPORT.mean_context)
            reports = answers_per_second(model, device, REPORT, many)
            images = answers_per_second(model, device, IMAGE, many)
            rows.append(
                (
                    device.name,
                    model.name,
                    f"{many}",
                    _number(one),
                    _number(many / step_seconds(model, device, many, REPORT.mean_context)),
                    f"{_number(reports)} / {_number(images)}",
                    _number(reports * efficiency * DAY),
                )
            )
    heading = ("device", "model", "at once", "tok/s, one", "tok/s, all")
    return _markdown((*heading, "reports / images a second", "reports a day, estimate"), rows)


def _region_table(efficiency: float, studies: Sequence[int], peak: float, use: float) -> str:
    pairs = [(m, d) for d in DEVICES[1:4:2] for m in MODELS[1:3]]
    rows = []
    for count in studies:
        needed = [
            devices_needed(
                count,
                efficiency * answers_per_second(m, d, REPORT, batch_of(m, d)),
                peak=peak,
                use=use,
            )
            for m, d in pairs
        ]
        rows.append((f"{count:,}", *(str(number) for number in needed)))
    return _markdown(("studies a day", *(f"{m.name} on {d.name}" for m, d in pairs)), rows)


def _number(value: float) -> str:
    """Two significant digits; more than a bound deserves would mislead."""
    digits = max(0, 1 - math.floor(math.log10(value)))
    return f"{round(value, 1 - math.floor(math.log10(value))):,.{digits}f}"


def _markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, nargs="+", default=[300, 3_000, 30_000, 300_000])
    parser.add_argument("--efficiency", type=float, default=0.4, help="of the bound")
    parser.add_argument("--peak", type=float, default=3.0, help="busiest hour over the mean")
    parser.add_argument("--use", type=float, default=0.6, help="of the capacity, at the peak")
    asked = parser.parse_args()
    print(tables(asked.efficiency, asked.studies, asked.peak, asked.use))


if __name__ == "__main__":
    main()
