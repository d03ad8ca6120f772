"""Seeded drafts in ten languages and scripts, for the outputs: short, long, empty and odd ones."""

# ruff: noqa: RUF001 - several scripts are the point

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import numpy as np
from pydicom.uid import generate_uid

from llmcxr_models.observations import OBSERVABLE_FINDINGS, Observation
from llmcxr_models.report import Report
from llmcxr_service.draft import DraftReport, SyntheticRadiograph
from llmcxr_service.generator import Sampling
from llmcxr_service.rendering import HowDrawn, ModelIdentity
from llmcxr_service.source_instance import SourceInstance

MODEL = ModelIdentity("LLM-CXR demo", "0.1.0", "0123456789abcdef" * 4)
CREATED = datetime(2026, 3, 1, 12, 30, 45, 678901, tzinfo=UTC)

# (name in PN form, findings, impression)
LANGUAGES: dict[str, tuple[str, str, str]] = {
    "en": (
        "O'Neill^Mary Ann^^Dr.^PhD",
        "The heart is enlarged. No pneumothorax | no effusion & no ~infiltrate^. Path C:\\tmp.",
        "Cardiomegaly.",
    ),
    "de": (
        "Müßig^Jörg Özgür",
        "Das Herz ist vergrößert. Kein Pleuraerguß, größere Verschattungen über beiden Lungen.",
        "Kardiomegalie; Röntgenkontrolle in 4 Wochen empfohlen.",
    ),
    "fr": (
        "Lefèvre^Hélène",
        "Le cœur est élargi. Épanchement pleural gauche, à contrôler.",
        "Cardiomégalie modérée.",
    ),
    "pl": (
        "Żółć^Łucja",
        "Sylwetka serca powiększona. Płuca bez zagęszczeń, przepona gładka.",
        "Kardiomegalia. Wysięk opłucnowy nieobecny.",
    ),
    "el": (
        "Παπαδόπουλος^Γιώργος",
        "Η καρδιά είναι διογκωμένη. Δεν υπάρχει πλευριτική συλλογή.",
        "Καρδιομεγαλία.",
    ),
    "ru": (
        "Люкceмбypг^Анна",
        "Сердце увеличено в размерах. Плевральный выпот не определяется.",
        "Кардиомегалия, рекомендован контроль.",
    ),
    "ar": (
        "قباني^لنزار",
        "القلب متضخم. لا يوجد انصباب جنبي (CTR 0.58)، والرئتان صافيتان.",
        "تضخم القلب.",
    ),
    "he": (
        "שרון^דבורה",
        "הלב מוגדל. אין תפליט פלאורלי (CTR 0.58), והריאות נקיות.",
        "הגדלת לב.",
    ),
    "zh": (
        "Wang^XiaoDong=王^小东=",
        "心影增大。双肺野清晰，未见胸腔积液；右肺门影稍增浓。",
        "心脏增大，建议4周后复查。",
    ),
    "ja": (
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        "心陰影は拡大している。胸水は認められない。両側肺野に浸潤影なし。",
        "心拡大。",
    ),
    "ko": (
        "Hong^Gildong=洪^吉洞=홍^길동",
        "심장이 커져 있습니다. 흉막삼출은 보이지 않습니다.",
        "심비대.",
    ),
}
CJK = frozenset({"zh", "ja", "ko"})


def source(language: str = "en", key: str = "", **changes: str) -> SourceInstance:
    """The identity of a made-up radiograph."""
    name = LANGUAGES[language][0]
    values = {
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1",
        "sop_instance_uid": generate_uid(entropy_srcs=["instance", language, key]),
        "study_instance_uid": generate_uid(entropy_srcs=["study", language, key]),
        "series_instance_uid": generate_uid(entropy_srcs=["series", language, key]),
        "patient_id": "4711-A",
        "issuer_of_patient_id": "General Hospital",
        "patient_name": name,
        "patient_birth_date": "19510203",
        "patient_sex": "F",
        "accession_number": "ACC0815",
        "study_id": "S1",
        "study_date": "20260228",
        "study_time": "235959.25",
        "study_description": "Chest PA",
        "referring_physician_name": "Referrer^Rita",
        "modality": "DX",
        "body_part_examined": "CHEST",
        "view_position": "PA",
        "instance_number": "1",
    }
    return SourceInstance(**(values | changes))


def observations(dice: random.Random | None = None) -> tuple[Observation, ...]:
    """One of each finding that can be asked for."""
    dice = dice or random.Random(1)
    return tuple(
        Observation(finding, dice.random(), dice.choice((True, False, None)))
        for finding in OBSERVABLE_FINDINGS.values()
    )


def drawn(seed: int) -> HowDrawn:
    """As the service draws a report by default."""
    return HowDrawn(Sampling(seed, 0.0), 256)


def draft(language: str = "en", **changes: object) -> DraftReport:
    """A draft in a language."""
    _, findings, impression = LANGUAGES[language]
    values = {
        "report": Report(findings, impression),
        "observations": observations(),
        "model": MODEL,
        "how": drawn(7),
        "preprocessing": "display/squash/256",
        "created": CREATED,
        "source": source(language),
        "warnings": (),
        "language": language,
    }
    return DraftReport(**(values | changes))


def varied_drafts(count: int, seed: int = 0) -> Iterator[DraftReport]:
    """Drafts of all languages in turn, of many lengths, with odd and missing header values."""
    dice = random.Random(seed)
    languages = list(LANGUAGES)
    for index in range(count):
        language = languages[index % len(languages)]
        yield draft(
            language,
            report=_report(language, dice),
            observations=observations(dice),
            source=source(language, str(index), **_oddities(dice)),
            how=drawn(dice.randrange(2**32)),
            created=CREATED + timedelta(seconds=index),
            warnings=("The text was cut off at its longest length.",) * dice.randrange(2),
        )


def synthetic(size: int = 256, seed: int = 7) -> SyntheticRadiograph:
    """A grey gradient with noise, as if it had been drawn."""
    dice = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, size)[None, :] + dice.uniform(0, 55, (size, size))
    return SyntheticRadiograph(
        ramp.astype(np.uint8),
        "PROMPT-CANARY. The heart is enlarged.",
        MODEL,
        HowDrawn(Sampling(seed, 0.85, 0.92)),
        CREATED,
    )


def _report(language: str, dice: random.Random) -> Report:
    _, findings, impression = LANGUAGES[language]
    repeats = dice.choice((1, 1, 2, 5, 40, 120))
    findings = " ".join([findings] * repeats)
    impression = dice.choice((impression, impression, "", "\n".join([impression] * 6)))
    return Report(dice.choice((findings, findings, findings, "")), impression)


def _oddities(dice: random.Random) -> dict[str, str]:
    """Header values as they come: missing, malformed; identifiers stay within DICOM's lengths."""
    choices = {
        "patient_id": ("4711-A", "", "A^B&C|D~E", "x" * 64),
        "patient_birth_date": ("19510203", "", "1951.02.03", "19511332"),
        "patient_sex": ("F", "M", "O", "", "W", "male"),
        "accession_number": ("ACC0815", "", "0123456789ABCDEF"),
        "study_date": ("20260228", "", "28.02.2026", "20260231"),
        "study_time": ("235959.25", "1200", "", "25:99"),
        "study_description": ("Chest PA", "", "Thorax in zwei Ebenen " * 9),
        "referring_physician_name": ("Referrer^Rita", "", "a=b=c", "^^^^"),
        "instance_number": ("1", "", "IMG-1"),
    }
    return {name: dice.choice(values) for name, values in choices.items()}
