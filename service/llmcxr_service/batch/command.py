"""`llmcxr batch`: an archive at a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llmcxr_models.errors import CxrError
from llmcxr_service.settings import Settings, SettingsError, load_settings

problems = Console(stderr=True)


if TYPE_CHECKING:
    from llmcxr_service.batch.run import Summary


def batch(
    source: Annotated[
        str,
        typer.Argument(
            help="A folder, a manifest (.csv, .jsonl, .parquet with a column `path`), or"
            " dicomweb:NAME?Modality=CR,DX&StudyDate=20250101-20251231."
        ),
    ],
    output: Annotated[Path, typer.Argument(help="Directory of the run; an old one is gone on.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes with a VQ-GAN each.")] = 1,
    concurrency: Annotated[int, typer.Option(min=1, help="Radiographs of each at once.")] = 16,
    cpus: Annotated[float, typer.Option(min=0.1, help="Processors of each.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0.0, help="GPUs of each; 0.25: four share one.")] = 0.0,
    shard_size: Annotated[int, typer.Option(min=1, help="Radiographs of a file of results.")] = 64,
    structured_reports: Annotated[bool, typer.Option(help="Write DICOM SR too.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the first; the next one's is the next.")] = 0,
    address: Annotated[str, typer.Option(help="Head of a Ray cluster; else this machine.")] = "",
    patience: Annotated[float, typer.Option(min=1, help="Seconds that vLLM may be away.")] = 600.0,
) -> None:
    """Draft reports of a whole archive, into Parquet and DICOM SR; interrupted, it goes on."""
    settings = _settings()
    try:
        from llmcxr_service.batch.cluster import Workers
        from llmcxr_service.batch.plan import BatchOptions
        from llmcxr_service.batch.run import run_batch
        from llmcxr_service.batch.worker import WorkerOptions
    except ModuleNotFoundError:
        problems.print("This needs Ray Data: pip install 'llmcxr[batch]'.", markup=False)
        raise typer.Exit(2) from None
    options = partial(
        BatchOptions,
        source,
        seed=seed,
        shard_size=shard_size,
        structured_reports=structured_reports,
    )
    try:
        run = run_batch(
            settings,
            source,
            output,
            options=lambda model: options(model=model),
            workers=Workers(workers, cpus, gpus, address),
            work=WorkerOptions(concurrency, patience),
        )
        last = _shown(run)
    except CxrError as error:
        problems.print(str(error), markup=False, highlight=False)
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        problems.print("Interrupted. What is done is kept; the same command goes on.")
        raise typer.Exit(130) from None
    counts = ", ".join(f"{count} {status}" for status, count in last.counts.items())
    problems.print(f"{last.before} done before; now {counts} in {last.seconds:.0f} s.")
    problems.print("AI-generated drafts, research use only.")


def _shown(run: Iterator[Summary]) -> Summary:
    """Follow a run on a progress bar; its last summary."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    summary = next(run)
    with Progress(*columns, console=problems) as progress:
        task = progress.add_task(
            "radiographs", total=summary.planned, completed=summary.before, rate=""
        )
        for summary in run:
            rate = f"{summary.done / summary.seconds:.2f}/s" if summary.seconds else ""
            progress.update(task, completed=summary.before + summary.done, rate=rate)
    return summary


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        problems.print(str(error), markup=False, highlight=False)
        raise typer.Exit(2) from None
