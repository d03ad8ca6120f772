"""The tables of a reader study. Pure text; readers' names are escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llmcxr_training.reader_study.figures_of_reports import NAMES

Found = Mapping[str, Any]

_SOME_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "|\\`*_<>[]#"})


def markdown(analysis: Found) -> str:
    """Everything that `analysis.json` holds, for people."""
    lines = [f"# {_safe(analysis['study']['title'])}", "", *_readers(analysis["readers"])]
    if analysis["images"] is not None:
        lines += _images(analysis["images"])
    if analysis["reports"] is not None:
        lines += _reports(analysis["reports"])
    return "\n".join([*lines, *_agreement(analysis["agreement"]), *_notes(analysis)]) + "\n"


def _readers(readers: Found) -> list[str]:
    rows = [
        (
            _safe(name),
            f"{r['rated']} of {r['cases']}",
            str(r["begun"]),
            _number(r["median_seconds"]),
        )
        for name, r in readers.items()
    ]
    return _table(("reader", "rated", "begun, not confirmed", "median seconds"), rows)


def _images(images: Found) -> list[str]:
    columns = ("accuracy", "auc", "generated_called_generated", "real_called_generated")
    heads = ("", "accuracy", "AUC", "generated called generated", "real called generated", "p")
    whole = images["all"]
    rows = [(f"all {whole['readers']} who are done", *(_interval(whole[c]) for c in columns), "")]
    for name, one in images["by_reader"].items():
        values = [_number(one[c]) if c == "auc" else _interval(one[c]) for c in columns]
        rows.append((_safe(name), *values, _p(one["p_against_guessing"])))
    problems = [
        (name, _interval(found["generated"]), _interval(found["real"]))
        for name, found in images["problems"].items()
    ]
    return [
        *("## Real or generated", ""),
        *_table(heads, rows),
        *("Share of pictures in which a problem was marked:", ""),
        *_table(("problem", "generated", "real"), problems),
    ]


def _reports(reports: Found) -> list[str]:
    whole, position = reports["all"], reports["position"]
    rows = [
        (_safe(name), *(str(one["counts"][n]) for n in NAMES.values()),
         _interval(one["generated_at_least_as_good"]), _p(one["p_sign_test"]))
        for name, one in reports["by_reader"].items()
    ]  # fmt: skip
    heads = (*(name.replace("_", " ") for name in NAMES.values()),)
    errors = [
        (category.replace("_", " "), *(
            _interval(found[how][which])
            for how in ("any", "significant")
            for which in ("generated", "reference", "difference")
        ))
        for category, found in reports["errors"].items()
    ]  # fmt: skip
    return [
        *("## Which report is better", ""),
        f"By {whole['readers']} readers who are done. Generated at least as good:"
        f" {_interval(whole['generated_at_least_as_good'])}; better:"
        f" {_interval(whole['generated_better'])}. Mean preference from -2 (reference) to 2"
        f" (generated): {_interval(whole['mean'])}, signed-rank test of case means"
        f" p = {_p(whole['p_signed_rank_of_case_means'])}. The report that stood first was"
        f" preferred in {_interval(position['first_preferred'])} of decided comparisons,"
        f" p = {_p(position['p_against_one_half'])}.",
        "",
        *_table(("reader", *heads, "generated at least as good", "p, sign test"), rows),
        *("Share of reports with an error:", ""),
        *_table(
            ("error", "generated", "reference", "difference", "generated, significant",
             "reference, significant", "difference, significant"),
            errors,
        ),
    ]  # fmt: skip


def _agreement(agreement: Found) -> list[str]:
    rows = []
    for kind, decision in (("image", "real or generated"), ("report", "which report")):
        found = agreement[kind]
        rows.append((decision, "all who are done, Fleiss", "", _interval(found["fleiss"]), ""))
        groups = (("", found["pairs"]), (", again", found["same_reader"]))
        rows += [
            (decision, f"{_safe(who)}{end}", _interval(f["same_decision"]),
             _interval(f["cohen"]), _interval(f["cohen_quadratic"]))
            for end, pairs in groups
            for who, f in pairs.items()
        ]  # fmt: skip
    heads = ("decision", "between", "same decision", "kappa", "kappa of the scale, quadratic")
    return ["## Agreement", "", *_table(heads, rows)]


def _notes(analysis: Found) -> list[str]:
    return [
        "Who are done: have rated every case of the kind; everybody, where nobody has."
        " In brackets 95 % intervals: of several readers by bootstrap over readers and cases"
        f" ({analysis['resamples']} resamplings), of one reader's shares Wilson's, of kappas by"
        " bootstrap over cases. `-`: no value, for example a kappa where only one answer was"
        " given. p: exact binomial tests unless said otherwise, not corrected for their number."
        " Definitions: docs/reader-study.md.",
        "",
        f"Study `{analysis['study']['digest'][:12]}`.",
    ]


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    lines = [heads, ("---",) * len(heads), *rows]
    return [*(f"| {' | '.join(line)} |" for line in lines), ""]


def _interval(found: Mapping[str, float | None]) -> str:
    if found["value"] is None:
        return "-"
    return f"{_number(found['value'])} ({_number(found['low'])} to {_number(found['high'])})"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _safe(text: str) -> str:
    return text.translate(_SOME_MARKS)
