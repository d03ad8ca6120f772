"""A paragraph about what a grid shows, and what it cannot show. Pure; words from numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def differs(gap: Mapping[str, Any]) -> bool:
    """Whether a difference is told apart from none: by patients, and by every seed.

    Its interval over patients leaves out zero, and it has one sign with each seed.
    """
    ends, seeds = (gap["low"], gap["high"]), gap["seeds"]
    if None in ends or None in seeds:
        return False
    return bool(ends[0] * ends[1] > 0 and (min(seeds) > 0 or max(seeds) < 0))


def conclusions(results: Mapping[str, Any]) -> str:
    """What may be concluded from `ablation.json`'s content, and what not."""
    said = [sentence for key in results["figures"] if (sentence := _of_figure(results, key))]
    found = " ".join(said) or "No combination has been compared yet."
    return f"{found}\n\n{_limits(results)}"


def _of_figure(results: Mapping[str, Any], key: str) -> str:
    figure = results["figures"][key]
    better: list[str] = []
    worse: list[str] = []
    alike: list[str] = []
    for row in results["rows"]:
        gap = row["figures"][key].get("difference")
        if gap is None:
            continue
        if not differs(gap):
            alike.append(row["label"])
        elif (gap["value"] < 0) == figure["lower_is_better"]:
            better.append(row["label"])
        else:
            worse.append(row["label"])
    parts = [
        f"{word}: {'; '.join(labels)}"
        for word, labels in (("better", better), ("worse", worse), ("not told apart", alike))
        if labels
    ]
    if not parts:
        return ""
    return f"**{figure['title']}**, against {results['reference']}: {', '.join(parts)}."


def _limits(results: Mapping[str, Any]) -> str:
    seeds = len(results["seeds"])
    compared = sum("difference" in f for row in results["rows"] for f in row["figures"].values())
    least = 2.0 ** (1 - seeds)
    budget = results["budget"]
    return (
        f"A difference counts here if its 95 % interval over patients leaves out zero and it has "
        f"one sign with every seed ({seeds}). The interval redraws patients, not "
        f"training runs: with {seeds} run(s) a side a sign test cannot go below p = {least:g}, so "
        f"what another seed would give is not known. {compared} comparisons were made without "
        f"correction; one in twenty intervals leaves out zero by chance. "
        f"“Not told apart” is not “equal”. All of it is at "
        f"{budget['amount']:.3g} {budget['unit']} a cell and on the {results['split']} split: "
        f"nothing is said about larger models, longer training or other data, and learning rates "
        f"were not tuned for each cell."
    )
