"""docs/benchmarks/README.md: its tables, between marks, and its plots; all from latest.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from bench_sections.figures import FIGURES, Figure
from bench_sections.plots import PLOTS, draw

HEAD = ("Figure", "What", "Measured", "95 % interval", "Goal", "Met")
Sections = Mapping[str, Any]


def write_page(page: Path, sections: Sections) -> None:
    """Put tables and plots of these figures into the page and beside it."""
    for name in draw(page.parent, sections):
        print(f"drawn: {name}")
    page.write_text(rendered(page.read_text(encoding="utf-8"), sections), encoding="utf-8")


def rendered(page: str, sections: Sections) -> str:
    """The page's text with what is between each pair of marks made anew.

    Raises:
        ValueError: a part has no marks in the page.
    """
    for name, part in PARTS.items():
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        if page.count(begin) != 1 or page.count(end) != 1:
            raise ValueError(f"the page has no place for {name}")
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{part(sections)}\n{end}{rest.split(end)[1]}"
    return page


def on_screen(sections: Sections) -> Table:
    """The goals, for a terminal."""
    table = Table(*(name for name in HEAD if name != "What"))
    for key, _, *values in rows(sections):
        table.add_row(key, *values)
    return table


def rows(sections: Sections) -> list[tuple[str, ...]]:
    """The goals, line by line, as `HEAD` says."""
    return [_row(figure, figure.found(sections)) for figure in FIGURES]


def _row(figure: Figure, found: Mapping[str, Any] | None) -> tuple[str, ...]:
    goal = "none" if figure.goal is None else f"{figure.bound} {number(figure.goal, figure.unit)}"
    if found is None:
        return figure.key, figure.words, "not measured", "", goal, ""
    interval = ""
    if found["low"] is not None:
        interval = f"{number(found['low'])} to {number(found['high'])}"
    met = {True: "yes", False: "**no**", None: ""}[figure.is_met(found["value"])]
    return figure.key, figure.words, number(found["value"], figure.unit), interval, goal, met


def _goals(sections: Sections) -> str:
    return markdown(HEAD, ((f"`{row[0]}`", *row[1:]) for row in rows(sections)))


def _conditions(sections: Sections) -> str:
    head = ("Section", "Measured", "Commit", "Minutes", "Load before", "Machine")
    lines = []
    for name, section in sections.items():
        c = section["conditions"]
        m = c["machine"]
        machine = f"{m['cores']} cores, {m['processor']}, {', '.join(m['flags'])}"
        commit = c["commit"] + (" and changes" if c["uncommitted_changes"] else "")
        took = f"{c['took_seconds'] / 60:.1f}"
        lines.append((name, c["when"][:10], commit, took, f"{c['load_average_before']}", machine))
    return markdown(head, lines) if lines else "Nothing was measured yet."


def _throughput(section: Sections) -> str:
    head = (
        "",
        "published way",
        *(f"gateway, {n} at once" for n in section["images"]["per_second"]),
    )
    lines = []
    for kind in ("images", "reports"):
        found = section[kind]
        rates = [number(rate) for rate in found["per_second"].values()]
        lines.append((f"{kind} a second", number(found["official_per_second"]), *rates))
        ratios = [with_interval(ratio) for ratio in found["vs_official"].values()]
        lines.append(("/ published way", "1", *ratios))
    images = section["images"]
    note = (
        "The published way is counted as if each first attempt at an image were one; in truth"
        f" {images['official_images_that_came']} of {len(images['official_attempts'])} images came"
        f" within {images['official_attempts_at_most']} attempts"
        f" ({sum(images['official_attempts'])} in all)."
    )
    return f"{markdown(head, lines)}\n\n{note}"


def _overhead(section: Sections) -> str:
    throughput = section["throughput"]
    first = markdown(
        (f"tokens a second, {throughput['at_once']} at once", "vLLM alone", "gateway", "ratio"),
        [
            (
                kind,
                number(throughput[kind]["vllm_tokens_per_second"]),
                number(throughput[kind]["gateway_tokens_per_second"]),
                with_interval(throughput[kind]["ratio"]),
            )
            for kind in ("text", "images")
        ],
    )
    lines = [
        (f"{kind}, {words}", number(values["p50"]), number(values["p99"]), str(values["n"]))
        for key, words in (("added_ms", "real vLLM"), ("added_ms_scripted", "scripted vLLM"))
        for kind, values in section[key].items()
    ]
    return f"{first}\n\n{markdown(('added milliseconds', 'p50', 'p99', 'requests'), lines)}"


def _vqgan(section: Sections) -> str:
    head = ("images a second", "one at a time", "micro-batches", "bare torch, best", "batch")
    return markdown(
        (*head, "/ one at a time", "/ bare torch"),
        [
            (
                kind,
                number(found["single_per_second"]),
                number(found["batched_per_second"]),
                number(found["torch_per_second"][str(found["best_batch"])]),
                str(found["best_batch"]),
                with_interval(found["batched_vs_single"]),
                with_interval(found["batched_vs_torch"]),
            )
            for kind, found in ((kind, section[kind]) for kind in ("encode", "decode"))
        ],
    )


def _decode(section: Sections) -> str:
    head = ("processor time, ms", "pydicom alone", "as usual", "ours", "pydicom / ours")
    lines = []
    for name, file in section["files"].items():
        cpu = [file["cpu_ms"][way] for way in ("pydicom", "usual", "ours")]
        ratio = number(1.0 / file["ratio_ours_to_pydicom"])
        lines.append((name, *map(number, cpu), ratio))
    return markdown(head, lines)


def _cost(section: Sections) -> str:
    load = markdown(
        ("images at once", "a second", "seconds, p50", "seconds, p99", "processor s an image"),
        [
            (
                level,
                number(found["images_per_second"]),
                number(found["seconds"]["p50"]),
                number(found["seconds"]["p99"]),
                number(found["processor_seconds_per_image"]),
            )
            for level, found in section["load"].items()
        ],
    )
    lines = [
        (kind, at_once, length, number(f["per_second"]), with_interval(f["vs_published_length"]))
        for kind in ("writing", "reading")
        for at_once, lengths in section[kind].items()
        for length, f in lengths.items()
    ]
    head = ("vLLM alone", "at once", "image tokens", "images a second", "/ published length")
    return f"{load}\n\n{markdown(head, lines)}"


def _start(section: Sections) -> str:
    runs = {name: run for name, run in section.items() if name != "conditions"}
    head = ("`make demo`", "ready, s", "first report, s", "all of it, s")
    times = ("seconds_to_ready", "seconds_to_first_report", "seconds_of_the_whole_demo")
    lines = [(name, *(number(run[key]) for key in times)) for name, run in runs.items()]
    kinds = sorted({kind for run in runs.values() for kind in run["peak_mib"]})
    memory = [
        (kind, *(number(run["peak_mib"].get(kind, 0.0)) for run in runs.values())) for kind in kinds
    ]
    return f"{markdown(head, lines)}\n\n{markdown(('peak, MiB', *runs), memory)}"


def _roofline(section: Sections) -> str:
    machine = markdown(
        ("machine and model", ""),
        [
            ("bandwidth, GB/s", number(section["bandwidth_gb_per_second"])),
            (f"products, {section['dtype']}, GFLOP/s", number(section["gflop_per_second"])),
            ("weights read each step, MiB", number(section["weights_mib"])),
            ("keys and values of a token, bytes", number(section["kv_bytes_per_token"])),
            ("mean context, tokens", number(section["mean_context_tokens"])),
        ],
    )
    lines: list[tuple[str, ...]] = [
        (
            level,
            number(section["bound_tokens_per_second"][level]),
            number(tokens),
            number(section["share"][level]),
        )
        for level, tokens in section["vllm_tokens_per_second"].items()
    ]
    prompts = section["prompts"]
    keys = ("bound_tokens_per_second", "tokens_per_second", "share")
    lines.append(("prompts", *(number(prompts[key]) for key in keys)))
    return f"{machine}\n\n{markdown(('sequences', 'bound, tok/s', 'vLLM, tok/s', 'share'), lines)}"


def _options(section: Sections) -> str:
    parts = [
        "One engine process and threads that spin briefly (turned on); images:",
        _before_and_after("images", section["waiting"]),
        "Key-value cache in blocks of 32 tokens instead of 128 (turned on, no clear gain):",
        _before_and_after("images", section["blocks"]["images"]),
        _before_and_after("reports", section["blocks"]["reports"]),
        "All questions about a radiograph in one request (turned on); one answer is one token:",
        _before_and_after("radiographs", section["questions"]),
        "Speculative decoding with n-grams (not turned on); reports:",
    ]
    ngram = section["ngram"]
    parts.append(
        _before_and_after("reports", ngram)
        if ngram["started"]
        else f"vLLM did not start with it: {' '.join(ngram['why'])}"
    )
    return "\n\n".join(parts)


def _before_and_after(kind: str, found: Mapping[str, Any]) -> str:
    lines = [
        (
            level,
            number(f["before_tokens_per_second"]),
            number(f["after_tokens_per_second"]),
            with_interval(f["ratio"]),
        )
        for level, f in found.items()
        if isinstance(f, Mapping)
    ]
    return markdown((f"{kind} at once", "tok/s before", "tok/s after", "ratio"), lines)


def _section(name: str, render: Callable[[Sections], str]) -> Callable[[Sections], str]:
    def part(sections: Sections) -> str:
        if name not in sections:
            return "Not measured yet."
        pictures = [f"![{words}]({file})" for file, of, words, _ in PLOTS if of == name]
        return "\n\n".join([render(sections[name]), *pictures])

    return part


PARTS: dict[str, Callable[[Sections], str]] = {
    "goals": _goals,
    "conditions": _conditions,
    "throughput": _section("throughput", _throughput),
    "overhead": _section("overhead", _overhead),
    "vqgan": _section("vqgan", _vqgan),
    "decode": _section("decode", _decode),
    "cost": _section("cost", _cost),
    "start": _section("start", _start),
    "roofline": _section("roofline", _roofline),
    "options": _section("options", _options),
}


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table."""
    every = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in every)


def number(value: float, unit: str = "") -> str:
    """Three digits."""
    shown = f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{shown} {unit}".rstrip()


def with_interval(ratio: Mapping[str, Any]) -> str:
    """A ratio and its interval."""
    if ratio["low"] is None:
        return number(ratio["value"])
    return f"{number(ratio['value'])} ({number(ratio['low'])} to {number(ratio['high'])})"
