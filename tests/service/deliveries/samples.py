"""One drafted report of an invented patient, in every form that is sent."""

from __future__ import annotations

from datetime import UTC, datetime

from llmcxr_models.report import Report
from llmcxr_service.deliveries.sending import Parcel
from llmcxr_service.draft import DraftReport
from llmcxr_service.generator import Sampling
from llmcxr_service.outputs.formats import render
from llmcxr_service.receiving import Output
from llmcxr_service.rendering import HowDrawn, ModelIdentity
from llmcxr_service.source_instance import SourceInstance

SOURCE = SourceInstance(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    sop_instance_uid="1.2.826.0.1.3680043.8.498.1",
    study_instance_uid="1.2.826.0.1.3680043.8.498.2",
    series_instance_uid="1.2.826.0.1.3680043.8.498.3",
    patient_id="ID-4711-INVENTED",
    patient_name="INVENTED^PATIENT",
    accession_number="ACC-4711",
)


def sample_draft() -> DraftReport:
    """The report."""
    return DraftReport(
        report=Report(findings="The lungs are clear.", impression="Normal."),
        observations=(),
        model=ModelIdentity("tiny", "0.0.1", "0" * 64),
        how=HowDrawn(Sampling(1, 0.0), 256),
        preprocessing="display",
        created=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        source=SOURCE,
    )


def sample_parcels(output: Output) -> tuple[Parcel, ...]:
    """It, as it is sent."""
    return (Parcel(output, render(sample_draft(), output)),)
