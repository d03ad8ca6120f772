"""STOW-RS (PS3.18, 10.5) apart from HTTP: what is answered about what was stored."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from pydicom import Dataset

from llmcxr_service.intake_dicom.reception import Outcome


def status_of(outcomes: Sequence[Outcome]) -> HTTPStatus:
    """All, some or none were stored (PS3.18, table 10.5.3-1)."""
    stored = sum(outcome.verdict.is_success for outcome in outcomes)
    if stored == len(outcomes):
        return HTTPStatus.OK
    return HTTPStatus.ACCEPTED if stored else HTTPStatus.CONFLICT


def describe(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The Store Instances Response Module (PS3.3, C.12.1.1.3) as DICOM JSON.

    Retrieve URL is empty throughout: nothing can be retrieved from here. What has no identity
    that could be named goes to Other Failures Sequence.
    """
    module = Dataset()
    module.RetrieveURL = None
    stored, failed, other = [], [], []
    for outcome in outcomes:
        item = _item(outcome)
        if outcome.verdict.is_success:
            stored.append(item)
        elif outcome.source is not None:
            failed.append(item)
        else:
            other.append(item)
    if stored:
        module.ReferencedSOPSequence = stored
    if failed:
        module.FailedSOPSequence = failed
    if other:
        module.OtherFailuresSequence = other
    answer: dict[str, Any] = module.to_json_dict()
    return answer


def _item(outcome: Outcome) -> Dataset:
    item = Dataset()
    if outcome.source is not None:
        item.ReferencedSOPClassUID = outcome.source.sop_class_uid
        item.ReferencedSOPInstanceUID = outcome.source.sop_instance_uid
    if outcome.verdict.is_success:
        item.RetrieveURL = None
    else:
        item.FailureReason = outcome.verdict.status
    return item
