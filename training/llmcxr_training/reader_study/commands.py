"""`llmcxr-train reader-study prepare | example | serve | analyse`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True,
    help="What do human readers say? A blinded study: prepare, serve, analyse.",
)

StudyPath = Annotated[Path, typer.Argument(help="Study folder.")]
Images = Annotated[int, typer.Option(help="Pictures to judge, half of them generated.")]
Reports = Annotated[int, typer.Option(help="Radiographs with two reports to compare.")]
Repeats = Annotated[float, typer.Option(help="Share of cases that come a second time.")]


@app.command()
def prepare(
    checkpoint: Annotated[Path, typer.Argument(help="The checkpoint that was evaluated.")],
    evaluation: Annotated[Path, typer.Argument(help="Folder of its finished evaluation.")],
    study: StudyPath,
    images: Images = 40,
    reports: Reports = 20,
    repeats: Repeats = 0.1,
    seed: int = 0,
    title: str = "Reader study: chest radiographs",
) -> None:
    """Draw a blinded, randomised set from a finished evaluation."""
    from llmcxr_training.reader_study.finished import FinishedEvaluation
    from llmcxr_training.reader_study.prepare import Design
    from llmcxr_training.reader_study.prepare import prepare as write

    design = Design(title=title, images=images, reports=reports, repeats=repeats, seed=seed)
    found = FinishedEvaluation.open(checkpoint, evaluation)
    written = write(found.candidates(), design, study, found.provenance)
    typer.echo(f"{len(written.cases)} cases in {study}")


@app.command()
def example(
    study: StudyPath,
    images: Images = 8,
    reports: Reports = 4,
    repeats: Repeats = 0.25,
    seed: int = 0,
) -> None:
    """Make a study of drawn pictures, to see how it works; it says nothing of any model."""
    from llmcxr_training.reader_study.example import drawn_candidates
    from llmcxr_training.reader_study.prepare import Design
    from llmcxr_training.reader_study.prepare import prepare as write

    title = "Example study: drawn pictures"
    design = Design(title=title, images=images, reports=reports, repeats=repeats, seed=seed)
    candidates = drawn_candidates(images + reports, seed)
    written = write(candidates, design, study, {"source": "drawn pictures"})
    typer.echo(f"{len(written.cases)} cases in {study}")


@app.command()
def serve(
    study: StudyPath,
    reader: Annotated[
        list[str], typer.Option(help="Name or code of a new reader; may be repeated.")
    ] = [],  # noqa: B006  typer needs it
    host: str = "127.0.0.1",
    port: int = 8090,
    allowed_host: Annotated[
        list[str], typer.Option(help="Name under which other machines ask; may be repeated.")
    ] = [],  # noqa: B006
) -> None:
    """Serve the study's page on this machine; readers go on where they stopped."""
    from llmcxr_training.reader_study.serve import serve as run

    typer.echo(f"http://{host}:{port}/ - stop with Ctrl-C; every rating is saved at once")
    run(study, reader, host=host, port=port, allowed_hosts=allowed_host)


@app.command()
def analyse(
    study: StudyPath,
    key: Annotated[Path | None, typer.Option(help="The key, where it was kept elsewhere.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    resamples: int = 2000,
) -> None:
    """Discrimination, preference, errors and agreement of the ratings so far."""
    from llmcxr_training.reader_study.analysis import analyse as measure

    path = measure(study, output or study, key=key, resamples=resamples)
    typer.echo(path.read_text(encoding="utf-8"))
