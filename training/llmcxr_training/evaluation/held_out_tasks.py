"""Instructions whose answers a program can check. Written for this evaluation; never trained on.

In the manner of IFEval (Zhou et al., arXiv 2311.07911): what is checked is stated in the
instruction. Easy ones, since the models here are small. Data only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

Check = Callable[[str], bool]


@dataclass(frozen=True)
class HeldOutTask:
    """One instruction.

    Attributes:
        instruction: what is asked.
        passes: whether an answer does what was asked.
        input: what it is asked about; may be empty.
    """

    instruction: str
    passes: Check
    input: str = ""


def matching(pattern: str) -> Check:
    """Whether `pattern` occurs, whatever the case."""
    return lambda answer: re.search(pattern, answer, re.IGNORECASE) is not None


def words(least: int, most: int) -> Check:
    """Whether an answer has so many words."""
    return lambda answer: least <= len(answer.split()) <= most


def lines(count: int, pattern: str) -> Check:
    """Whether exactly `count` lines begin with `pattern`."""
    return lambda answer: (
        sum(re.match(rf"\s*(?:{pattern})", line) is not None for line in answer.splitlines())
        == count
    )


def both(first: Check, second: Check) -> Check:
    """Whether both pass."""
    return lambda answer: first(answer) and second(answer)


def without(pattern: str) -> Check:
    """Whether something is said, and `pattern` does not occur."""
    found = matching(pattern)
    return lambda answer: bool(answer.strip()) and not found(answer)


def in_capitals(answer: str) -> bool:
    """Whether there are letters, and all of them are capitals."""
    return answer.isupper()


def in_small_letters(answer: str) -> bool:
    """Whether there are letters, and none of them is a capital."""
    return answer.islower()


def is_json_with(*keys: str) -> Check:
    """Whether an answer is one JSON object with exactly these keys."""

    def passes(answer: str) -> bool:
        plain = re.sub(r"^```(?:json)?|```$", "", answer.strip()).strip()
        try:
            value = json.loads(plain)
        except ValueError:
            return False
        return isinstance(value, dict) and set(value) == set(keys)

    return passes


TASKS: tuple[HeldOutTask, ...] = (
    HeldOutTask(
        "Answer with one word only: what is the capital of France?",
        both(words(1, 1), matching(r"\bparis\b")),
    ),
    HeldOutTask("What is the capital of Italy?", matching(r"\brome\b")),
    HeldOutTask("What is the largest planet of our solar system?", matching(r"\bjupiter\b")),
    HeldOutTask("How many days are there in a week?", matching(r"\b(7|seven)\b")),
    HeldOutTask("How many legs does a spider have?", matching(r"\b(8|eight)\b")),
    HeldOutTask("What is 7 plus 5?", matching(r"\b(12|twelve)\b")),
    HeldOutTask("What is 20 minus 6?", matching(r"\b(14|fourteen)\b")),
    HeldOutTask("At how many degrees Celsius does water freeze?", matching(r"\b(0|zero)\b")),
    HeldOutTask("Which gas do people need to breathe?", matching(r"\boxygen\b")),
    HeldOutTask("What colour do you get if you mix blue and yellow?", matching(r"\bgreen\b")),
    HeldOutTask("Which organ pumps blood through the body?", matching(r"\bheart\b")),
    HeldOutTask("With which organ do people breathe?", matching(r"\blungs?\b")),
    HeldOutTask("Answer only yes or no: is ice cold?", matching(r"^\W*yes\W*$")),
    HeldOutTask("Answer only yes or no: can pigs fly?", matching(r"^\W*no\W*$")),
    HeldOutTask("Count from 1 to 5.", matching(r"1\D+2\D+3\D+4\D+5")),
    HeldOutTask("Write the alphabet's first three letters.", matching(r"\ba\W+b\W+c\b")),
    HeldOutTask("Name three animals as a numbered list.", lines(3, r"[123][.)]")),
    HeldOutTask("Give exactly two reasons to drink water, each after a dash.", lines(2, "[-*]")),
    HeldOutTask("List four fruits, one on each line, each after a dash.", lines(4, "[-*]")),
    HeldOutTask("Write one sentence about the sea in capital letters only.", in_capitals),
    HeldOutTask("Write one sentence about cats without any capital letter.", in_small_letters),
    HeldOutTask("Describe the moon in at most ten words.", words(1, 10)),
    HeldOutTask("Describe winter in at most fifteen words.", words(1, 15)),
    HeldOutTask("Write at least forty words about horses.", words(40, 10_000)),
    HeldOutTask("Say hello to Maria by her name.", matching(r"\bmaria\b")),
    HeldOutTask(
        "Write a sentence with the words river and bridge.",
        both(matching(r"\briver"), matching(r"\bbridge")),
    ),
    HeldOutTask(
        "Write a sentence with the words doctor and morning.",
        both(matching(r"\bdoctor"), matching(r"\bmorning")),
    ),
    HeldOutTask("Describe snow without the word white.", without(r"\bwhite\b")),
    HeldOutTask("Describe the sun without the word star.", without(r"\bstars?\b")),
    HeldOutTask("End your answer with the word goodbye.", matching(r"\bgoodbye\W*$")),
    HeldOutTask("Begin your answer with the word Certainly.", matching(r"^\W*certainly\b")),
    HeldOutTask("Ask me a question.", matching(r"\?")),
    HeldOutTask(
        "Repeat this sentence word for word.",
        matching(r"the old lamp stood beside the window"),
        "The old lamp stood beside the window.",
    ),
    HeldOutTask("Repeat the following number.", matching(r"\b4183\b"), "4183"),
    HeldOutTask(
        "Which city is named in this text?",
        matching(r"\bcairo\b"),
        "My aunt moved to Cairo in the spring and opened a small shop.",
    ),
    HeldOutTask(
        "How old is the dog in this text?",
        matching(r"\b(9|nine)\b"),
        "Our dog is nine years old, and our cat is four.",
    ),
    HeldOutTask(
        "Is this review positive or negative?",
        both(matching(r"\bnegative\b"), without(r"\bpositive\b")),
        "The food was cold, the room was dirty, and nobody helped us.",
    ),
    HeldOutTask(
        "Is this review positive or negative?",
        both(matching(r"\bpositive\b"), without(r"\bnegative\b")),
        "A wonderful evening: friendly people, and the best soup of my life.",
    ),
    HeldOutTask(
        "Put these words into alphabetical order.",
        matching(r"apple\W+lemon\W+pear"),
        "pear, apple, lemon",
    ),
    HeldOutTask(
        "Write this sentence in capital letters.",
        lambda answer: "THE TRAIN IS LATE" in answer,
        "the train is late",
    ),
    HeldOutTask(
        "Shorten this to at most twelve words.",
        words(1, 12),
        "The committee that had been asked to look into the matter of the broken lift came to the"
        " conclusion that a new lift would have to be bought before the end of the year.",
    ),
    HeldOutTask(
        "Answer with a JSON object with the keys name and age and nothing else.",
        is_json_with("name", "age"),
        "Peter is 31 years old.",
    ),
)
