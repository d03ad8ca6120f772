"""The page's plots: SVG, the same bytes for the same figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# No clock and no chance in the files, or every run would change them.
mpl.rcParams.update({"svg.hashsalt": "llmcxr", "svg.fonttype": "none", "font.size": 9})
Section = Mapping[str, Any]


def _rates(section: Section, axes: Axes) -> None:
    for kind, marker in (("images", "o"), ("reports", "s")):
        found = section[kind]
        levels = [int(level) for level in found["per_second"]]
        (line,) = axes.plot(levels, list(found["per_second"].values()), marker=marker, label=kind)
        axes.axhline(
            found["official_per_second"],
            linestyle="--",
            color=line.get_color(),
            label=f"{kind}, published way",
        )
    axes.set(xlabel="requests at once", ylabel="a second", xscale="log", yscale="log")
    axes.set_xticks(levels, [str(level) for level in levels])


def _batches(section: Section, axes: Axes) -> None:
    for kind in ("encode", "decode"):
        found = section[kind]
        sizes = [int(size) for size in found["torch_per_second"]]
        (line,) = axes.plot(
            sizes, list(found["torch_per_second"].values()), marker="o", label=f"{kind}, bare torch"
        )
        axes.axhline(
            found["batched_per_second"],
            linestyle="--",
            color=line.get_color(),
            label=f"{kind}, micro-batches of the service",
        )
    axes.set(xlabel="batch", ylabel="images a second", xscale="log")
    axes.set_ylim(bottom=0)
    axes.set_xticks(sizes, [str(size) for size in sizes])


def _load(section: Section, axes: Axes) -> None:
    load = section["load"]
    levels = [int(level) for level in load]
    cost = [found["processor_seconds_per_image"] for found in load.values()]
    wait = [found["seconds"]["p50"] for found in load.values()]
    axes.plot(levels, cost, marker="o", label="processor seconds an image")
    axes.plot(levels, wait, marker="s", label="seconds until it is there, p50")
    axes.set(xlabel="images at once", ylabel="seconds", xscale="log", yscale="log")
    axes.set_xticks(levels, [str(level) for level in levels])


def _tokens(section: Section, axes: Axes) -> None:
    for kind, marker in (("writing", "o"), ("reading", "s")):
        for at_once, lengths in section[kind].items():
            tokens = [int(length) for length in lengths]
            seconds = [1.0 / found["per_second"] for found in lengths.values()]
            axes.plot(tokens, seconds, marker=marker, label=f"{kind}, {at_once} at once")
    axes.set(xlabel="image tokens", ylabel="seconds an image", xscale="log", yscale="log")
    axes.set_xticks(tokens, [str(number) for number in tokens])


def _memory(section: Section, axes: Axes) -> None:
    peaks = section["second"]["peak_mib"]
    axes.barh(list(peaks), list(peaks.values()))
    axes.set(xlabel="MiB at most, second demo")


def _bound(section: Section, axes: Axes) -> None:
    levels = [int(level) for level in section["vllm_tokens_per_second"]]
    axes.plot(levels, list(section["bound_tokens_per_second"].values()), "--", label="bound")
    axes.plot(levels, list(section["vllm_tokens_per_second"].values()), marker="o", label="vLLM")
    axes.set(xlabel="sequences at once", ylabel="tokens a second", xscale="log", yscale="log")
    axes.set_xticks(levels, [str(level) for level in levels])


PLOTS: tuple[tuple[str, str, str, Callable[[Section, Axes], None]], ...] = (
    ("throughput.svg", "throughput", "Images and reports a second by requests at once", _rates),
    ("vqgan.svg", "vqgan", "VQ-GAN images a second by batch", _batches),
    ("load.svg", "cost", "Cost and time of an image by load", _load),
    ("tokens.svg", "cost", "Time of an image by its number of tokens", _tokens),
    ("memory.svg", "start", "Peak memory of each process", _memory),
    ("roofline.svg", "roofline", "Tokens a second and the machine's bound", _bound),
)
"""File, section, words, and how it is drawn."""


def draw(folder: Path, sections: Mapping[str, Any]) -> list[str]:
    """Write the plots of the sections that were measured; their files' names."""
    drawn = []
    for file, section, words, fill in PLOTS:
        if section not in sections:
            continue
        figure = Figure(figsize=(6.0, 3.6), layout="constrained")
        axes = figure.subplots()
        fill(sections[section], axes)
        axes.set_title(words)
        if len(axes.get_legend_handles_labels()[1]):
            axes.legend(fontsize=7)
        axes.grid(visible=True, alpha=0.3)
        figure.savefig(folder / file, metadata={"Date": None})
        drawn.append(file)
    return drawn
