"""The published pipeline's way, on the same weights: `transformers`, one request at a time.

How LLM-CXR's `generate_eval.py` and `training/generate.py` (github.com/hyn2028/llm-cxr) go about
it: `model.generate` in bfloat16, nucleus sampling with top_p 0.92 at temperature 1 and without
top_k, any token allowed; an image is asked for again until 256 image tokens came. Reports are
written with at most 128 new tokens there.

Where we differ, it is in its favour: an attempt ends after 256 new tokens (there 300, which a
model that was not taught to end an image would fill with more of them), the weights have the
type that vLLM uses on this machine, and reports are greedy and as long as the gateway's, which
moreover asks for findings one by one.

Weights that seldom draw 256 image tokens in a row would let that way take for ever, and any bound
on the attempts would make the ratio what we want it to be. So it is compared by what it costs at
the very least: one attempt of 256 tokens, as if each first one were an image. How often attempts
truly were one is counted beside it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM

from llmcxr_models.checkpoint import Checkpoint
from llmcxr_models.image_tokenizer import ImageTokenizer
from llmcxr_models.preprocess import to_grey8, to_pixels
from llmcxr_models.prompt import Prompt
from llmcxr_models.quiet import quiet_libraries
from llmcxr_models.radiograph_file import read_radiograph

TOP_P = 0.92


@dataclass(frozen=True)
class Attempted:
    """An image, or what became of it.

    Attributes:
        seconds: of all attempts, pixels included.
        attempts: how often the model was asked.
        came: whether the last one was an image.
    """

    seconds: float
    attempts: int
    came: bool


class Official:
    """The language model and the VQ-GAN in this process.

    Args:
        checkpoint: whose weights are used.
        dtype: of the language model's, as vLLM names it.
        most_attempts: for one image.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str, most_attempts: int) -> None:
        self._vocabulary = checkpoint.manifest.vocabulary
        self._preprocessing = checkpoint.manifest.preprocessing
        self._prompts = checkpoint.load_prompts()
        self._tokenizer = checkpoint.load_tokenizer()
        self._vqgan = ImageTokenizer(checkpoint.load_vqgan())
        self._most_attempts = most_attempts
        self._model = AutoModelForCausalLM.from_pretrained(
            checkpoint.llm_path, dtype=getattr(torch, dtype), local_files_only=True
        ).eval()

    def lucky_image(self, report: str, seed: int) -> float:
        """Seconds of one attempt that is as long as an image, with its pixels."""
        length = self._vocabulary.image_length
        torch.manual_seed(seed)
        started = time.perf_counter()
        drawn = self._generate(self._prompts.image(report), sample=True, min_tokens=length)
        # What is no image token here would not be one of an image either: any code costs the same.
        codes = [token % self._vqgan.config.codebook_size for token in drawn[:length]]
        to_grey8(self._vqgan.decode(torch.tensor([codes]))[0])
        return time.perf_counter() - started

    def image(self, report: str, seed: int) -> Attempted:
        """Draw until an image came."""
        prompt = self._prompts.image(report)
        torch.manual_seed(seed)
        started = time.perf_counter()
        for attempt in range(1, self._most_attempts + 1):
            drawn = self._generate(prompt, sample=True)
            if len(drawn) == self._vocabulary.image_length and all(
                token in self._vocabulary.image_token_ids for token in drawn
            ):
                codes = torch.tensor([self._vocabulary.to_codes(drawn)])
                to_grey8(self._vqgan.decode(codes)[0])
                return Attempted(time.perf_counter() - started, attempt, came=True)
        return Attempted(time.perf_counter() - started, self._most_attempts, came=False)

    def report(self, radiograph: bytes) -> tuple[float, int]:
        """Write a report; seconds, and tokens written."""
        started = time.perf_counter()
        with quiet_libraries():
            pixels = to_pixels(read_radiograph(radiograph), self._preprocessing)
        codes = self._vqgan.encode(pixels.unsqueeze(0))[0].tolist()
        written = self._generate(self._prompts.report(codes), sample=False)
        self._tokenizer.decode(written)
        return time.perf_counter() - started, len(written)

    @torch.inference_mode()
    def _generate(self, prompt: Prompt, *, sample: bool, min_tokens: int = 0) -> list[int]:
        ids = torch.tensor([prompt.token_ids])
        room = self._model.config.max_position_embeddings - ids.shape[1]
        how = {"temperature": 1.0, "top_p": TOP_P, "top_k": 0} if sample else {}
        found = self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=sample,
            min_new_tokens=min_tokens,
            max_new_tokens=min(prompt.constraint.max_tokens, room),
            eos_token_id=list(self._vocabulary.stop_token_ids),
            pad_token_id=self._vocabulary.stop_token_ids[0],
            **how,
        )
        written: list[int] = found[0, ids.shape[1] :].tolist()
        return written
