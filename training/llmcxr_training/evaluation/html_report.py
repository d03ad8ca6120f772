"""An evaluation as one HTML file: tables, plots, pictures; it loads nothing from anywhere.

It shows radiographs and texts of the data set, so the data set's licence holds for it.
"""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from llmcxr_training.evaluation import plots
from llmcxr_training.evaluation.figures import read_figures
from llmcxr_training.evaluation.gallery import Gallery, Grey
from llmcxr_training.evaluation.markdown import finding_tables, footnotes, main_rows
from llmcxr_training.metrics.intervals import Interval

Values = Mapping[str, Interval]

QUALITY = 88
"""Of JPEG: a sixth of the size, and nobody sees the difference."""

_REPORT_FIGURES = (
    ("label micro F1", "label_micro_f1"),
    ("label macro F1 of those that occur", "label_macro_f1_present"),
    ("BLEU-4", "bleu4"),
    ("ROUGE-L", "rouge_l"),
)
_REPORT_SYSTEMS = (
    ("this checkpoint", ""),
    ("constant report", "constant."),
    ("another patient's", "shuffled."),
    ("nearest training image's", "nearest_neighbour."),
)
_IMAGE_FIGURES = (
    ("Fréchet distance, less is better", "fd_judge"),
    ("kernel distance, less is better", "kid_judge"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("density", "density"),
    ("coverage", "coverage"),
)
_IMAGE_SYSTEMS = (
    ("this checkpoint", ""),
    ("real, other patients", ".floor"),
    ("reconstructed", ".reconstructions"),
    ("code marginals", ".marginals"),
    ("marginals by position", ".position_marginals"),
)


def html_report(evaluation: Mapping[str, Any], tables: Mapping[str, Any], gallery: Gallery) -> str:
    """The whole page.

    Args:
        evaluation: content of `evaluation.json`.
        tables: content of `tables.json`.
        gallery: pictures; may be empty.
    """
    values = read_figures(evaluation["metrics"])
    return render(
        "report.html.j2",
        evaluation=evaluation,
        settings=evaluation["settings"],
        footnotes=footnotes(evaluation),
        rows=main_rows(values, evaluation["goals"]),
        finding_tables=finding_tables(values),
        tables=tables,
        plots=_plots(values, tables),
        gallery=gallery,
    )


def _plots(values: Values, tables: Mapping[str, Any]) -> dict[str, str]:
    """SVG by name; a plot without data is missing."""
    found = {}
    if groups := _report_groups(values):
        found["reports"] = plots.interval_plot(groups)
    if groups := _image_groups(values):
        found["images"] = plots.interval_plot(groups)
    if curves := tables.get("findings"):
        found["answers_roc"] = plots.roc_plot(curves, [("roc", "", plots.BLUE)])
        found["answers_reliability"] = plots.reliability_plot(curves)
    if curves := tables.get("images"):
        kinds = [("generated", "generated", plots.BLUE), ("real", "real", plots.GREY)]
        found["images_roc"] = plots.roc_plot(curves, kinds)
    if labels := tables.get("labels"):
        found["labels"] = plots.label_plot(labels)
    if words := tables.get("words"):
        found["words"] = plots.length_plot(words)
    return found


Groups = list[tuple[str, list[tuple[str, Interval]]]]


def _report_groups(values: Values) -> Groups:
    groups = []
    for title, name in _REPORT_FIGURES:
        keys = [(label, f"report.{system}{name}") for label, system in _REPORT_SYSTEMS]
        groups.append((title, [(label, values[key]) for label, key in keys if key in values]))
    return [group for group in groups if group[1]]


def _image_groups(values: Values) -> Groups:
    groups = []
    for title, name in _IMAGE_FIGURES:
        keys = [(label, f"image.{name}{system}") for label, system in _IMAGE_SYSTEMS]
        groups.append((title, [(label, values[key]) for label, key in keys if key in values]))
    return [group for group in groups if group[1]]


def picture_url(grey: Grey) -> str:
    """A picture (S, S) as a data URL."""
    written = io.BytesIO()
    Image.fromarray(grey).save(written, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()


def plot_url(svg: str) -> str:
    """A plot as a data URL: ids of one plot never meet those of another."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("llmcxr_training.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["picture"] = picture_url
    environment.filters["plot"] = plot_url
    return environment


def render(template: str, **content: object) -> str:
    """One of the package's templates, everything in it escaped."""
    return _environment().get_template(template).render(**content)
