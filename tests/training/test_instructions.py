"""Training examples: what they say, what they weigh, and that a number always names the same."""

from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from transformers import PreTrainedTokenizerFast

from llmcxr_models.observations import NO, YES, observable_findings
from llmcxr_models.prompt import REPORT_INSTRUCTIONS, PromptBuilder, Task
from llmcxr_models.report import Report
from llmcxr_models.text_tokenizer import TextTokenizer
from llmcxr_models.vocabulary import Vocabulary, image_token_name
from llmcxr_training.data import DataError, Study
from llmcxr_training.encode_images import EncodedImages
from llmcxr_training.instructions import (
    ExampleSampler,
    Mixing,
    PlainInstruction,
    read_instructions,
)
from llmcxr_training.questions import (
    FINDING_QUESTIONS,
    FINDINGS,
    NORMAL,
    NORMAL_QUESTIONS,
    TAUGHT,
    draw_questions,
    is_indexed,
    is_normal,
)

CODES, LENGTH = 16, 4
PLAIN = [PlainInstruction("Say hello.", "in French", "bonjour")]


@pytest.fixture(scope="module")
def text(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(tokenizer_folder)
    tokenizer.add_tokens([image_token_name(c) for c in range(CODES)], special_tokens=True)
    folder = tmp_path_factory.mktemp("extended")
    tokenizer.save_pretrained(folder)
    return TextTokenizer(folder / "tokenizer.json")


@pytest.fixture(scope="module")
def builder(text: TextTokenizer) -> PromptBuilder:
    ending = text.token_id("<|im_end|>")
    assert ending is not None
    vocabulary = Vocabulary(text.size, text.size - CODES, CODES, LENGTH, (ending,))
    return PromptBuilder("smollm2", vocabulary, text)


def study(number: int, labels: tuple[str, ...] = ("normal",), **changed: object) -> Study:
    settings: dict[str, object] = {
        "id": f"s{number}",
        "path": Path("none.png"),
        "split": "train",
        "view": "PA",
        "patient_id": f"p{number}",
        "report": Report(f"Finding {number}.", "Clear."),
        "indication": "Cough.",
        "labels": labels,
    }
    return Study(**(settings | changed))  # type: ignore[arg-type]


STUDIES = [study(n) for n in range(6)] + [study(n, ("cardiomegaly/mild",)) for n in range(6, 9)]
IMAGES = EncodedImages(
    tuple(s.id for s in STUDIES),
    np.random.default_rng(0).integers(0, CODES, (len(STUDIES), 2, LENGTH)).astype(np.uint16),
)


def sampler(builder: PromptBuilder, *, max_tokens: int = 400, **mixing: float) -> ExampleSampler:
    return ExampleSampler(STUDIES, IMAGES, PLAIN, builder, Mixing(**mixing), max_tokens)


def only(builder: PromptBuilder, kind: str, **mixing: float) -> ExampleSampler:
    shares = dict.fromkeys(("image_to_text", "report_to_image", "instructions"), 0.0)
    return sampler(builder, **(shares | {kind: 1.0} | mixing))


def test_an_example_depends_on_seed_and_number_only(builder: PromptBuilder) -> None:
    one, other = sampler(builder), sampler(builder)
    forwards = [one.draw(3, n) for n in range(30)]
    backwards = [other.draw(3, n) for n in reversed(range(30))]
    assert forwards == backwards[::-1]
    assert forwards != [one.draw(4, n) for n in range(30)]
    assert len({tuple(e.token_ids) for e in forwards}) > 20


def test_the_mixture_is_as_asked(builder: PromptBuilder) -> None:
    examples = [sampler(builder, normal_share=0.35).draw(0, n) for n in range(3000)]
    kinds = Counter(e.task for e in examples)
    assert kinds[Task.IMAGE] / 3000 == pytest.approx(0.4, abs=0.03)
    assert kinds[Task.INSTRUCTION] / 3000 == pytest.approx(0.2, abs=0.03)
    assert kinds[Task.QUESTION] / 3000 == pytest.approx(0.12, abs=0.02)
    assert kinds[Task.REPORT] / 3000 == pytest.approx(0.28, abs=0.03)


@pytest.mark.parametrize(("share", "expected"), [(0.35, 0.35), (None, 6 / 9), (1.0, 1.0)])
def test_normal_studies_are_rebalanced(
    builder: PromptBuilder, text: TextTokenizer, share: float | None, expected: float
) -> None:
    reports = only(builder, "image_to_text", question_share=0.0, normal_share=share)
    texts = [text.decode(reports.draw(0, n).token_ids) for n in range(1000)]
    normal = sum(any(f"Finding {n}." in t for n in range(6)) for t in texts)
    assert normal / 1000 == pytest.approx(expected, abs=0.05)


def test_a_report_weighs_its_answer_and_ending(builder: PromptBuilder, text: TextTokenizer) -> None:
    sampled = only(builder, "image_to_text", question_share=0.0, indication_share=0.0)
    example = sampled.draw(0, 1)
    answer = [i for i, w in zip(example.token_ids, example.weights, strict=True) if w]
    assert set(example.weights) == {0.0, 1.0}
    assert answer[-1] == builder.vocabulary.stop_token_ids[0]
    assert Report.parse(text.decode(answer)).impression == "Clear."
    # What is served is a prefix of what is taught.
    prompt_length = example.weights.index(1.0)
    assert not any(example.weights[:prompt_length])
    assert all(example.weights[prompt_length:])
    codes = [i for i in example.token_ids if i in builder.vocabulary.image_token_ids]
    known = IMAGES.codes.reshape(-1, LENGTH).tolist()
    assert builder.vocabulary.to_codes(codes) in known
    prompts = [
        builder.report(builder.vocabulary.to_codes(codes), paraphrase=p).token_ids
        for p in range(10)
    ]
    assert tuple(example.token_ids[:prompt_length]) in prompts


def test_input_images_weigh_what_is_asked(builder: PromptBuilder) -> None:
    for kind in ("image_to_text", "report_to_image"):
        sampled = only(builder, kind, prompt_image_weight=0.25)
        for number in range(20):
            example = sampled.draw(0, number)
            for token_id, weight in zip(example.token_ids, example.weights, strict=True):
                if token_id in builder.vocabulary.image_token_ids:
                    assert weight == (0.25 if kind == "image_to_text" else 1.0)
                else:
                    assert weight in ({0.0, 1.0} if kind == "image_to_text" else {0.0})


def test_an_image_answer_is_the_image_and_nothing_more(builder: PromptBuilder) -> None:
    example = only(builder, "report_to_image").draw(0, 2)
    assert example.weights[-LENGTH:] == [1.0] * LENGTH
    assert not any(example.weights[:-LENGTH])
    assert builder.vocabulary.to_codes(example.token_ids[-LENGTH:])


def test_questions_share_one_image(builder: PromptBuilder, text: TextTokenizer) -> None:
    sampled = only(builder, "image_to_text", question_share=1.0, questions_per_image=3)
    for number in range(20):
        example = sampled.draw(1, number)
        image = [i for i in example.token_ids if i in builder.vocabulary.image_token_ids]
        assert len(image) == LENGTH
        answers: list[list[int]] = [[]]
        for token_id, weight in zip(example.token_ids, example.weights, strict=True):
            if weight:
                answers[-1].append(token_id)
            elif answers[-1]:
                answers.append([])
        assert len(answers) == 3
        assert {text.decode(answer) for answer in answers} <= {YES, NO}
        assert all(answer[-1] == builder.vocabulary.stop_token_ids[0] for answer in answers)


def test_only_indexed_studies_are_asked_about(builder: PromptBuilder) -> None:
    unindexed = [study(0, ()), study(1, ("no indexing",))]
    assert not any(map(is_indexed, unindexed))
    mixing = Mixing(image_to_text=1, report_to_image=0, instructions=0, question_share=1.0)
    sampled = ExampleSampler(unindexed, IMAGES, [], builder, mixing, 400)
    assert {sampled.draw(0, n).task for n in range(20)} == {Task.REPORT}


def test_questions_are_true_to_the_index_terms() -> None:
    enlarged = study(0, ("cardiomegaly/mild", "pleural effusion/left"))
    for number in range(50):
        questions = draw_questions(enlarged, 4, random.Random(number))
        assert len(questions) == 4
        assert {a for _, a in questions} == {YES, NO}
        for question, answer in questions:
            affirmed = "cardiomegaly" in question or "pleural effusion" in question
            assert answer == (YES if affirmed else NO)
    assert len(draw_questions(enlarged, 100, random.Random(0))) <= len(FINDINGS) + 1
    assert len(draw_questions(study(0), 1, random.Random(0))) == 1


def test_at_least_one_question_is_asked() -> None:
    with pytest.raises(ValidationError):
        Mixing(questions_per_image=0)


def test_overlong_examples_are_drawn_again(builder: PromptBuilder) -> None:
    lengths = {len(sampler(builder).draw(0, n).token_ids) for n in range(50)}
    limit = sorted(lengths)[len(lengths) // 2]
    short = sampler(builder, max_tokens=limit)
    again = [short.draw(0, n) for n in range(50)]
    assert max(len(e.token_ids) for e in again) <= limit
    fits = [n for n in range(50) if len(sampler(builder).draw(0, n).token_ids) <= limit]
    assert all(sampler(builder).draw(0, n) == again[n] for n in fits)


def test_where_everything_is_too_long_it_ends(builder: PromptBuilder) -> None:
    with pytest.raises(DataError, match="at most 5 tokens"):
        sampler(builder, max_tokens=5).draw(0, 0)


def test_studies_without_report_or_codes_are_left_out(builder: PromptBuilder) -> None:
    studies = [*STUDIES, study(77), study(0, report=Report())]
    assert len(ExampleSampler(studies, IMAGES, PLAIN, builder, Mixing(), 400)) == len(STUDIES)
    with pytest.raises(DataError):
        ExampleSampler([study(77)], IMAGES, PLAIN, builder, Mixing(), 400)
    with pytest.raises(DataError):
        ExampleSampler(STUDIES, IMAGES, [], builder, Mixing(), 400)


def test_instructions_are_read_and_malformed_ones_refused(tmp_path: Path) -> None:
    path = tmp_path / "instructions.jsonl"
    odd = "line one\u2028line two\u0085three"
    record = {
        "instruction": "Write.",
        "instances": [{"input": "", "output": odd}, {"input": "x", "output": " "}],
    }
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n\n", encoding="utf-8")
    assert read_instructions(path) == [PlainInstruction("Write.", "", odd)]
    for malformed in ("{", "[]", '{"instruction": "x"}', '{"instances": 3, "instruction": ""}'):
        path.write_text(malformed)
        with pytest.raises(DataError):
            read_instructions(path)
    with pytest.raises(DataError):
        read_instructions(tmp_path / "none.jsonl")


def test_questions_are_true_to_chexpert_s_observations() -> None:
    labels = ("cardiomegaly", "edema/questionable", "support devices")
    enlarged = replace(study(0, labels), labelled_by="chexpert")
    asked = dict(draw_questions(enlarged, 100, random.Random(0)))
    answers = {
        name: [a for q, a in asked.items() if name in q]
        for name in ("cardiomegaly", "effusion", "edema", "granuloma")
    }
    # Neither what the labeller is uncertain of, nor what it has no word for.
    assert answers == {"cardiomegaly": [YES], "effusion": [NO], "edema": [], "granuloma": []}
    for labels, normal in (
        (("no finding", "support devices"), True),
        (("no finding", "edema/questionable"), False),
        (("fracture",), False),
    ):
        assert is_normal(replace(study(0, labels), labelled_by="chexpert")) is normal


def test_dolly_s_instructions_are_read_as_well(tmp_path: Path) -> None:
    path = tmp_path / "dolly.jsonl"
    record = {"instruction": "Add.", "context": "1 1", "response": "2", "category": "qa"}
    path.write_text(json.dumps(record) + "\n")
    assert read_instructions(path) == [PlainInstruction("Add.", "1 1", "2")]


def test_what_is_served_was_taught_in_that_wording():
    taught = {NORMAL: NORMAL_QUESTIONS} | {
        f.name: tuple(q.format(f.phrase) for q in FINDING_QUESTIONS) for f in FINDINGS
    }
    for finding in observable_findings(TAUGHT):
        assert finding.question in taught[finding.name]


def test_a_report_and_questions_share_one_image(
    builder: PromptBuilder, text: TextTokenizer
) -> None:
    mixing = Mixing(
        image_to_text=1,
        report_to_image=0,
        instructions=0,
        share_image=True,
        question_share=0.25,
        questions_per_image=8,
        question_weight=4.0,
    )
    sampled = ExampleSampler(STUDIES, IMAGES, PLAIN, builder, mixing, 4000)
    kinds: Counter[Task] = Counter()
    for number in range(200):
        example = sampled.draw(1, number)
        kinds[example.task] += 1
        rows = list(zip(example.token_ids, example.weights, example.branches, strict=True))
        image = [i for i in example.token_ids if i in builder.vocabulary.image_token_ids]
        assert len(image) == LENGTH
        trunk = [token_id for token_id, _, branch in rows if branch == 0]
        assert example.token_ids[: len(trunk)] == trunk
        assert set(image) <= set(trunk)
        for branch in range(1, max(example.branches) + 1):
            part = [(token_id, weight) for token_id, weight, b in rows if b == branch]
            assert part[0][1] == 0.0  # no target: it is not predicted from the trunk
            answer = text.decode([token_id for token_id, weight in part if weight])
            weights = {weight for _, weight in part if weight}
            if example.task is Task.REPORT and branch == 1:
                assert weights == {1.0}
                assert Report.parse(answer).impression == "Clear."
            else:
                assert weights == {4.0}
                assert answer in {YES, NO}
    assert kinds[Task.QUESTION] / 200 == pytest.approx(0.25, abs=0.1)


def test_rare_findings_are_drawn_as_often_as_others(builder: PromptBuilder) -> None:
    studies = [study(n, ("pleural effusion",)) for n in range(8)] + [study(8, ("cardiomegaly",))]
    mixing = Mixing(image_to_text=1, report_to_image=0, instructions=0, question_share=0.0)
    shares = {}
    for finding_share in (0.0, 1.0):
        changed = mixing.model_copy(update={"finding_share": finding_share, "normal_share": 0.0})
        sampled = ExampleSampler([*studies, STUDIES[0]], IMAGES, [], builder, changed, 400)
        drawn = [sampled._draw_study(random.Random(n)).id for n in range(600)]
        shares[finding_share] = drawn.count("s8") / 600
    assert shares == {0.0: pytest.approx(1 / 9, abs=0.05), 1.0: pytest.approx(1 / 2, abs=0.06)}


def test_plain_text_and_cut_answers_are_taught_as_they_are(
    builder: PromptBuilder, text: TextTokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "own.jsonl"
    records = [
        {"text": "the heart is", "cut": True},
        {"text": "the end.", "cut": False},
        {"instruction": "Go on.", "context": "", "response": "and so", "cut": True},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    own = read_instructions(path)
    mixing = Mixing(image_to_text=0, report_to_image=0, instructions=1)
    ending = builder.vocabulary.stop_token_ids[0]
    for plain, ends in zip(own, (False, True, False), strict=True):
        example = ExampleSampler(STUDIES, IMAGES, [plain], builder, mixing, 400).draw(0, 0)
        taught = [i for i, w in zip(example.token_ids, example.weights, strict=True) if w]
        assert (taught[-1] == ending) is ends
        assert example.weights[0] == 0.0
        assert text.decode(taught).strip() in plain.output


def test_prompts_state_what_the_report_affirms(builder: PromptBuilder, text: TextTokenizer) -> None:
    ill = [
        study(n, ("cardiomegaly",), report=Report("The heart is enlarged. No effusion.", ""))
        for n in range(9)
    ]
    shares = {"image_to_text": 1.0, "report_to_image": 0.0, "instructions": 0.0}

    def prompts(studies: list[Study], share: float) -> list[str]:
        mixing = Mixing(**shares, question_share=0.0, stated_share=share)
        sampled = ExampleSampler(studies, IMAGES, PLAIN, builder, mixing, 400)
        drawn = [sampled.draw(0, n) for n in range(200)]
        return [text.decode(example.token_ids) for example in drawn]

    stated = [said for said in prompts(ill, 0.5) if "Findings to report: cardiomegaly." in said]
    assert len(stated) / 200 == pytest.approx(0.5, abs=0.1)
    assert all("Findings to report: none." in said for said in prompts(STUDIES[:6], 1.0))
    # Without it runs draw what they have always drawn.
    assert not any("Findings to report" in said for said in prompts(ill, 0.0))


def test_statements_come_without_a_radiograph(builder: PromptBuilder, text: TextTokenizer) -> None:
    shares = dict.fromkeys(("image_to_text", "report_to_image", "instructions"), 0.0)
    sampled = sampler(builder, **shares, statements=1.0)
    for number in range(20):
        example = sampled.draw(0, number)
        assert example.task is Task.REPORT
        assert not set(example.token_ids) & set(builder.vocabulary.image_token_ids)
        told = [i for i, w in zip(example.token_ids, example.weights, strict=True) if w]
        assert Report.parse(text.decode(told)).impression == "Clear."
        prompt = example.token_ids[: example.weights.index(1.0)]
        assert prompt in [
            list(builder.report_of((), paraphrase=p).token_ids)
            for p in range(len(REPORT_INSTRUCTIONS))
        ]
