"""Everything that an evaluation depends on: the TOML file of `llmcxr-train evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from llmcxr_training.datasets import Data
from llmcxr_training.metrics.classification import LEAST_POSITIVES
from llmcxr_training.precision import Precision

Split = Literal["val", "test"]
SuiteName = Literal["single-finding-reports", "single-finding-images", "instructions"]


class ReportSampling(BaseModel):
    """How reports are written; the defaults are the service's.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus sampling.
        max_tokens: longest report.
        indication: whether the prompt states why the study was made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=0.0, ge=0.0)
    top_p: float = Field(default=1.0, gt=0.0, le=1.0)
    max_tokens: int = Field(default=256, ge=1)
    indication: bool = False


class ImageSampling(BaseModel):
    """How radiographs are drawn; the defaults are the service's.

    Attributes:
        temperature: 0 is greedy.
        top_p: nucleus sampling.
        guidance: nats, how strongly images lean towards what their reports affirm; None is the
            checkpoint's own strength, 0 is the model alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(default=0.85, ge=0.0)
    top_p: float = Field(default=0.92, gt=0.0, le=1.0)
    guidance: float | None = Field(default=None, ge=0.0)


class Language(BaseModel):
    """What the loss of language is measured on.

    Attributes:
        test: text for the `test` split.
        val: text to look at while developing.
        window: most tokens that the model sees at once.
        stride: tokens scored in each window.
        max_tokens: only the beginning of the text; None for all of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    test: Path
    val: Path
    window: int = 1024
    stride: int = 512
    max_tokens: int | None = None


class Engine(BaseModel):
    """How vLLM runs in this process.

    Attributes:
        max_num_seqs: answers that it works on at once.
        kv_cache_gib: key-value cache on a CPU, GiB; on a GPU a share of its memory is taken.
        eager: no compilation; for some thousand answers on a CPU it does not pay.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_num_seqs: int = Field(default=64, ge=1)
    kv_cache_gib: float = 1.0
    eager: bool = True


class ExtractorSettings(BaseModel):
    """Whose features distances between sets of images are measured in, besides the judge's.

    Attributes:
        kind: `judge` for no other; `xrv`, a file with a TorchXRayVision DenseNet-121's weights;
            `rad-dino`, a Hugging Face directory of RAD-DINO or another DINOv2.
        path: file or directory; nothing is fetched.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["judge", "xrv", "rad-dino"] = "judge"
    path: Path | None = None

    @model_validator(mode="after")
    def _has_a_path(self) -> ExtractorSettings:
        if (self.kind == "judge") != (self.path is None):
            raise ValueError("xrv and rad-dino need a path, the judge has its own")
        return self


class Diversity(BaseModel):
    """How alike the images of one prompt are.

    Attributes:
        prompts: reports that are asked for more than one image; 0 leaves it out.
        images: of each of them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: int = Field(default=12, ge=0)
    images: int = Field(default=4, ge=2)


class Picked(BaseModel):
    """Images that the checkpoint's own judge picks among several (the service's `best_of`).

    Attributes:
        prompts: reports that so many images are drawn of, those with findings first; 0 leaves it
            out, and so does a checkpoint without a judge.
        best_of: images of each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompts: int = Field(default=0, ge=0)
    best_of: int = Field(default=4, ge=2, le=8)


class Evaluation(BaseModel):
    """Everything that an evaluation depends on.

    Attributes:
        data: radiographs with reports; `train` and `val` are read too, for baselines.
        judge: folder of the classifier that looks at images.
        base: the language model before fine-tuning.
        language: texts for perplexity.
        output: folder of results; what is in it is not computed again.
        split: whose patients are measured. Look at `val` while anything can still change.
        suite: one of the named experiments instead of everything, see `suites`.
        sections: parts of the reports; None is what the checkpoint was trained on.
        limit: radiographs at most, drawn at random; None for all.
        marginal_images: radiographs of the train split whose codes are counted.
        resamples: of every bootstrap.
        folds: of every jackknife.
        neighbours: of precision, recall, coverage, density.
        extractor: another feature space for distances.
        diversity: several images of one prompt.
        picked: the best of several images of one prompt.
        unguided_prompts: reports that an image is drawn of without guidance, too; 0 leaves that
            out, and so does a checkpoint without guidance.
        radeval: learned measures of reports, where their weights can be loaded.
        instruction_tokens: longest answer to a held-out instruction.
        pictures: radiographs in the grids of the HTML report; 0 for a report without any.
        least_positives: a finding with fewer gets no AUROC.
        seed: of sampling, baselines and `limit`.
        batch_size: images at once through VQ-GAN and judge.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: Data
    judge: Path
    base: Path
    language: Language
    output: Path
    split: Split = "test"
    suite: SuiteName | None = None
    sections: Literal["both", "impression"] | None = None
    limit: int | None = Field(default=None, ge=2)
    report: ReportSampling = ReportSampling()
    image: ImageSampling = ImageSampling()
    engine: Engine = Engine()
    marginal_images: int = Field(default=1000, ge=2)
    resamples: int = Field(default=1000, ge=1)
    folds: int = Field(default=20, ge=2)
    neighbours: int = Field(default=5, ge=1)
    least_positives: int = Field(default=LEAST_POSITIVES, ge=1)
    extractor: ExtractorSettings = ExtractorSettings()
    diversity: Diversity = Diversity()
    picked: Picked = Picked()
    unguided_prompts: int = Field(default=0, ge=0)
    radeval: bool = True
    instruction_tokens: int = Field(default=96, ge=1)
    pictures: int = Field(default=8, ge=0)
    seed: int = 0
    batch_size: int = Field(default=16, ge=1)
    device: str = "auto"
    precision: Precision = "auto"
    threads: int | None = None

    @property
    def text(self) -> Path:
        """What perplexity is measured on."""
        return self.language.test if self.split == "test" else self.language.val
