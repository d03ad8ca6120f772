"""From a request's input to its answer, step by step. It knows no HTTP."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from llmcxr_models.checkpoint import Manifest
from llmcxr_models.errors import (
    GeneratorMisbehaved,
    InvalidImageTokens,
    InvalidText,
)
from llmcxr_models.guidance import Guidance, guide
from llmcxr_models.mentions import mentions
from llmcxr_models.observations import Observation, observable_findings, to_state
from llmcxr_models.picking import Picker
from llmcxr_models.preprocess import to_grey8
from llmcxr_models.prompt import Prompt, PromptBuilder, Task
from llmcxr_models.radiograph import Radiograph
from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_service.answers import (
    DrawnImage,
    ImageAnswer,
    Reconstruction,
    ReportAnswer,
    TextAnswer,
    doubts_about,
    picked,
    speak_for,
    total_usage,
)
from llmcxr_service.completion import OnTokens
from llmcxr_service.errors import NoGuidance, NoJudge
from llmcxr_service.gatekeeper import Gatekeeper
from llmcxr_service.gathering import all_of
from llmcxr_service.generator import Generation, Generator, Sampling
from llmcxr_service.listening import (
    OnImageTokens,
    OnText,
    TextListener,
    check_text_ids,
    image_listener,
)
from llmcxr_service.observability import Metrics, Stopwatch
from llmcxr_service.observing import compare_with_text, observe
from llmcxr_service.quality import compare
from llmcxr_service.readiness import AnyReadiness
from llmcxr_service.vision import DecodeRadiograph, Vision

T = TypeVar("T")
SEEDS = 2**32


@dataclass(frozen=True)
class Inference:
    """Everything that answers need, put together once at start.

    Attributes:
        manifest: of the checkpoint.
        prompts: builds prompts.
        tokenizer: turns text answers into text.
        decode_radiograph: reads files.
        vision: the VQ-GAN.
        gatekeeper: says what the model may read.
        generator: the language model.
        readiness: whether it can be asked.
        metrics: where to count.
        executor: for tokenising and measuring, off the event loop.
        picker: judges drawn images; None where the checkpoint has no judge.
    """

    manifest: Manifest
    prompts: PromptBuilder
    tokenizer: TextTokenizer
    decode_radiograph: DecodeRadiograph
    vision: Vision
    gatekeeper: Gatekeeper
    generator: Generator
    readiness: AnyReadiness
    metrics: Metrics
    executor: Executor
    picker: Picker | None = None

    async def report(
        self,
        data: bytes,
        indication: str,
        sampling: Sampling,
        max_tokens: int,
        *,
        n: int = 1,
        on_text: OnText | None = None,
    ) -> ReportAnswer:
        """Draft the report of a radiograph.

        Args:
            data: the file.
            indication: why the study was made; may be empty.
            sampling: how words are drawn.
            max_tokens: longest draft.
            n: drafts, with the seeds seed, seed + 1, ...; the answer is the one that the others
                agree with most.
            on_text: told the draft's characters as they come; with `n` of 1 only.

        Raises:
            CxrError: the file cannot be read, or the language model did not answer.
        """
        watch = Stopwatch(self.metrics)
        # 1. Is there anybody to ask?
        await self.readiness.require()
        # 2. File to pixels to codes.
        radiograph, _, codes = await self._encode(data, watch)
        # 3. The findings, one by one.
        probabilities = await self._probabilities(codes, watch)
        stated = self._to_state(probabilities)
        # 4. Codes, words and what was found to token ids.
        with watch.stage("prompt"):
            prompt = await self._off_loop(
                lambda: self.prompts.report(
                    codes,
                    indication=indication,
                    stated=stated,
                    max_tokens=max_tokens,
                )
            )
        # 5. Token ids to words, for each seed.
        samplings = [replace(sampling, seed=seed) for seed in _seeds(sampling.seed, n)]
        drafts = await self._write(prompt, samplings, watch, radiograph.warnings, on_text)
        answer, agreement, doubts = speak_for(drafts)
        # 6. Does the text say what was found?
        observations, notes = self._observations(probabilities, answer.text)
        warnings = answer.warnings + doubts + notes
        self.metrics.answers.text(Task.REPORT, answer.text, warnings)
        return ReportAnswer(
            answer.text,
            answer.seed,
            total_usage(drafts),
            watch.timings_ms(),
            warnings,
            answer.mean_log_probability,
            observations,
            tuple(drafts) if agreement else (),
            agreement,
            stated,
        )

    async def question(
        self,
        data: bytes,
        question: str,
        sampling: Sampling,
        max_tokens: int,
        *,
        on_text: OnText | None = None,
    ) -> TextAnswer:
        """Answer a question about a radiograph; raises as `report` does."""

        def build(codes: list[int]) -> Prompt:
            return self.prompts.question(codes, question, max_tokens=max_tokens)

        watch = Stopwatch(self.metrics)
        prompt, _, warnings = await self._read_image(data, build, watch)
        (answer,) = await self._write(prompt, [sampling], watch, warnings, on_text)
        self.metrics.answers.text(Task.QUESTION, answer.text, answer.warnings)
        return answer

    async def instruction(
        self,
        instruction: str,
        text: str,
        sampling: Sampling,
        max_tokens: int,
        *,
        on_text: OnText | None = None,
    ) -> TextAnswer:
        """Follow an instruction without a radiograph; raises as `report` does."""
        watch = Stopwatch(self.metrics)
        # 1. Is there anybody to ask?
        await self.readiness.require()
        # 2. Words to token ids.
        with watch.stage("prompt"):
            prompt = await self._off_loop(
                lambda: self.prompts.instruction(instruction, text, max_tokens=max_tokens)
            )
        # 3. Token ids to words.
        (answer,) = await self._write(prompt, [sampling], watch, (), on_text)
        self.metrics.answers.text(Task.INSTRUCTION, answer.text, answer.warnings)
        return answer

    async def guide(self, report: str, strength: float | None) -> Guidance | None:
        """What images of `report` lean towards; None for the model alone.

        Args:
            report: what they are to show.
            strength: nats; None for the checkpoint's own.

        Raises:
            NoGuidance: a strength is asked for, and the checkpoint has no tables.
        """
        config = self.manifest.guidance
        if config is not None:
            return await self._off_loop(lambda: guide(report, config, strength))
        if strength:
            raise NoGuidance("This checkpoint has no tables to guide the drawing by.")
        return None

    async def draw(
        self,
        report: str,
        sampling: Sampling,
        n: int,
        *,
        pick: bool = False,
        on_tokens: OnImageTokens | None = None,
    ) -> ImageAnswer:
        """Draw `n` radiographs of a report, with the seeds seed, seed + 1, ...

        Args:
            report: what they are to show.
            sampling: how image tokens are drawn.
            n: radiographs to draw.
            pick: answer with only the one that agrees most with the report, by the judge.
            on_tokens: told of tokens as they come.

        Raises:
            NoJudge: one is to be picked, and the checkpoint has no judge.
            CxrError: the report is too long, or the language model did not draw whole images.
        """
        picker = self._require_picker() if pick else None
        watch = Stopwatch(self.metrics)
        # 1. Is there anybody to ask?
        await self.readiness.require()
        # 2. The report to token ids.
        with watch.stage("prompt"):
            prompt, _ = self._fit(await self._off_loop(lambda: self.prompts.image(report)))
        # 3. Exactly one image's worth of image tokens for each seed, at the same time.
        seeds, length = _seeds(sampling.seed, n), self.manifest.vocabulary.image_length
        with watch.stage("generate"):
            drawn = await all_of(
                [
                    self._draw(
                        prompt,
                        replace(sampling, seed=seed),
                        image_listener(i, length, on_tokens),
                    )
                    for i, seed in enumerate(seeds)
                ]
            )
        generations, all_codes = [generation for generation, _ in drawn], [c for _, c in drawn]
        # 4. Codes to pixels.
        with watch.stage("draw"):
            pictures = await all_of([self.vision.decode(codes) for codes in all_codes])
        images = [
            DrawnImage(to_grey8(pixels), codes, seed, generation.mean_log_probability)
            for pixels, codes, seed, generation in zip(
                pictures, all_codes, seeds, generations, strict=True
            )
        ]
        usage = (
            sum(generation.prompt_tokens for generation in generations),
            sum(len(generation.token_ids) for generation in generations),
        )
        if picker is None:
            return ImageAnswer(images, usage, watch.timings_ms(), ())
        # 5. The one that shows best what the report says.
        with watch.stage("judge"):
            choice = await self._off_loop(lambda: picker.pick(report, pictures))
        return picked(ImageAnswer(images, usage, watch.timings_ms(), ()), choice)

    async def reconstruct(self, data: bytes) -> Reconstruction:
        """Encode a radiograph and decode it again, without the language model.

        Raises:
            InvalidInput: the file cannot be read.
        """
        watch = Stopwatch(self.metrics)
        # 1. File to pixels to codes.
        radiograph, pixels, codes = await self._encode(data, watch)
        # 2. Codes back to pixels.
        with watch.stage("draw"):
            decoded = await self.vision.decode(codes)
        # 3. How much was lost.
        with watch.stage("compare"):
            quality = await self._off_loop(lambda: compare(pixels, decoded))
        self.metrics.answers.reconstruction(quality.psnr_db)
        return Reconstruction(
            to_grey8(decoded), codes, quality, watch.timings_ms(), radiograph.warnings
        )

    def _require_picker(self) -> Picker:
        if self.picker is None:
            raise NoJudge("This checkpoint has no judge, so no image can be picked.")
        return self.picker

    async def _read_image(
        self, data: bytes, build: Callable[[list[int]], Prompt], watch: Stopwatch
    ) -> tuple[Prompt, list[int], tuple[str, ...]]:
        # 1. Is there anybody to ask?
        await self.readiness.require()
        # 2. File to pixels to codes.
        radiograph, _, codes = await self._encode(data, watch)
        # 3. Codes and words to token ids.
        with watch.stage("prompt"):
            prompt = await self._off_loop(lambda: build(codes))
        return prompt, codes, radiograph.warnings

    async def _probabilities(self, codes: list[int], watch: Stopwatch) -> dict[str, float]:
        """Of a yes to each question that the checkpoint was taught, by finding's name."""
        findings = observable_findings(self.manifest.findings)
        if not findings:
            return {}
        with watch.stage("observe"):
            return await observe(codes, findings, self.prompts, self.generator)

    def _to_state(self, probabilities: Mapping[str, float]) -> tuple[str, ...] | None:
        stated_from = self.manifest.stated_from
        return to_state(probabilities, stated_from) if stated_from else None

    def _observations(
        self, probabilities: dict[str, float], text: str
    ) -> tuple[tuple[Observation, ...], tuple[str, ...]]:
        """What the model says of each finding, and whether the text says the same."""
        if not probabilities:
            return (), ()
        observations, notes = compare_with_text(
            observable_findings(self.manifest.findings),
            probabilities,
            mentions(text),
            self.manifest.stated_from,
        )
        self.metrics.answers.findings(observations, contradicted=bool(notes))
        return observations, notes

    async def _encode(self, data: bytes, watch: Stopwatch) -> tuple[Radiograph, Tensor, list[int]]:
        with watch.stage("decode"):
            radiograph = await self.decode_radiograph(data)
        doubts = self.gatekeeper.check_header(radiograph)
        with watch.stage("preprocess"):
            pixels = await self.vision.pixels(radiograph)
        if self.gatekeeper.looks_at_pixels:
            with watch.stage("gate"):
                doubts += await self._off_loop(
                    lambda: self.gatekeeper.check_pixels(radiograph, pixels)
                )
        with watch.stage("encode"):
            codes = await self.vision.encode(pixels)
        radiograph = replace(radiograph, warnings=radiograph.warnings + doubts)
        return radiograph, pixels, codes

    async def _write(
        self,
        prompt: Prompt,
        samplings: Sequence[Sampling],
        watch: Stopwatch,
        warnings: tuple[str, ...],
        on_text: OnText | None,
    ) -> list[TextAnswer]:
        """Answers to one prompt, drawn at the same time."""
        prompt, notes = self._fit(prompt)
        vocabulary = self.manifest.vocabulary
        listener = on_text and TextListener(prompt, vocabulary, self.tokenizer, on_text)
        with watch.stage("generate"):
            generations = await all_of(
                [
                    self._generate(prompt, sampling, listener.take if listener else None)
                    for sampling in samplings
                ]
            )
        texts = [self._text(generation, prompt) for generation in generations]
        if listener:
            listener.finish()
        return [
            TextAnswer(
                text,
                sampling.seed,
                (generation.prompt_tokens, len(generation.token_ids)),
                watch.timings_ms(),
                warnings + notes + doubts_about(text, generation),
                generation.mean_log_probability,
            )
            for text, sampling, generation in zip(texts, samplings, generations, strict=True)
        ]

    async def _generate(
        self, prompt: Prompt, sampling: Sampling, on_tokens: OnTokens | None = None
    ) -> Generation:
        generation = await self.generator.generate(prompt, sampling, on_tokens)
        self.metrics.tokens.labels("prompt").inc(generation.prompt_tokens)
        self.metrics.tokens.labels("completion").inc(len(generation.token_ids))
        self.metrics.answers.generation(prompt.task, generation)
        return generation

    def _fit(self, prompt: Prompt) -> tuple[Prompt, tuple[str, ...]]:
        """Shorten what may be answered to what is left of the longest sequence.

        Raises:
            InvalidText: the text leaves no room for an answer.
        """
        constraint = prompt.constraint
        room = self.manifest.max_model_len - len(prompt.token_ids)
        if room < constraint.min_tokens:
            raise InvalidText("The text has too many tokens for the model.", reason="too-long")
        if room >= constraint.max_tokens:
            return prompt, ()
        shorter = replace(prompt, constraint=replace(constraint, max_tokens=room))
        return shorter, (f"The model had room for {room} tokens of answer only.",)

    async def _draw(
        self, prompt: Prompt, sampling: Sampling, on_tokens: OnTokens | None
    ) -> tuple[Generation, list[int]]:
        """One answer that has to be an image, and its codes."""
        try:
            generation = await self._generate(prompt, sampling, on_tokens)
            codes = self.manifest.vocabulary.to_codes(generation.token_ids)
        except InvalidImageTokens:
            self.metrics.image_answers.inc()
            self.metrics.image_tokens_invalid.inc()
            raise
        self.metrics.image_answers.inc()
        return generation, codes

    def _text(self, generation: Generation, prompt: Prompt) -> str:
        constraint = prompt.constraint
        if not constraint.min_tokens <= len(generation.token_ids) <= constraint.max_tokens:
            raise GeneratorMisbehaved("The text answer has another length.", reason="length")
        check_text_ids(generation.token_ids, prompt, self.manifest.vocabulary)
        return self.tokenizer.decode(self._without_stop(generation.token_ids)).strip()

    def _without_stop(self, token_ids: tuple[int, ...]) -> tuple[int, ...]:
        stops = self.manifest.vocabulary.stop_token_ids
        return token_ids[:-1] if token_ids[-1] in stops else token_ids

    async def _off_loop(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.executor, work)


def choose_seed(seed: int | None) -> int:
    """The caller's seed, or one at random, which the answer then names."""
    return secrets.randbelow(SEEDS) if seed is None else seed


def _seeds(first: int, n: int) -> list[int]:
    return [(first + i) % SEEDS for i in range(n)]
