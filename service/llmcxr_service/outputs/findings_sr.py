"""The observations as a DICOM Comprehensive 3D SR: TID 1500 "Measurement Report".

One TID 1501 group for each finding: which one, how certain the model is of it (DCM 111012, per
cent), whether its own text affirms it, and the algorithm with version and digest.
"""

from __future__ import annotations

from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    FindingSite,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    SourceImageForMeasurementGroup,
    TrackingIdentifier,
)
from pydicom.sr.codedict import codes

from llmcxr_models.observations import Observation
from llmcxr_models.quiet import quiet_libraries
from llmcxr_service.draft import DraftReport, derived_uid
from llmcxr_service.errors import NotAcceptable
from llmcxr_service.outputs import marks
from llmcxr_service.outputs.identity import require_source
from llmcxr_service.outputs.object_ids import findings_content, object_ids, percent
from llmcxr_service.outputs.sr_content import (
    Series,
    concept,
    language_of,
    observed_by,
    own_concept,
    write_report,
)
from llmcxr_service.source_instance import SourceInstance

_SERIES = Series(
    9102, "AI findings (preliminary, unverified)", f"{marks.NOTICE} {marks.UNCALIBRATED}"
)
_MENTIONED = own_concept("MENTIONED", "Affirmed by the text of the AI draft report")
_PROCEDURE = CodedConcept("399208008", "SCT", "Plain chest X-ray")


def findings_sr(draft: DraftReport) -> bytes:
    """A DICOM file: COMPLETE, PRELIMINARY, UNVERIFIED, in the study of the source.

    Raises:
        UnsupportedRadiograph: the draft's picture has no identity.
        NotAcceptable: the checkpoint gives no probabilities.
    """
    if not draft.observations:
        raise no_observations()
    source = require_source(draft)
    ids = object_ids("findings-sr", source, draft, *findings_content(draft))
    with quiet_libraries():
        content = _content(draft, source)[0]
        return write_report(Comprehensive3DSR, content, ids, draft, source, _SERIES)


def no_observations() -> NotAcceptable:
    """The error for a checkpoint that was not taught to answer by yes or no."""
    return NotAcceptable(
        "The checkpoint gives no probabilities of findings.", reason="no-observations"
    )


def _content(draft: DraftReport, source: SourceInstance) -> MeasurementReport:
    return MeasurementReport(
        observation_context=observed_by(draft.model),
        procedure_reported=_PROCEDURE,
        imaging_measurements=[_group(o, draft, source) for o in draft.observations],
        language_of_content_item_and_descendants=language_of(draft),
    )


def _group(
    observation: Observation, draft: DraftReport, source: SourceInstance
) -> MeasurementsAndQualitativeEvaluations:
    finding = observation.finding
    evaluations = []
    if observation.mentioned is not None:
        value = codes.SCT.Yes if observation.mentioned else codes.SCT.No
        evaluations.append(QualitativeEvaluation(_MENTIONED, value))
    uid = derived_uid("tracking", source.sop_instance_uid, draft.model.digest, finding.name)
    return MeasurementsAndQualitativeEvaluations(
        # Viewers show this line: it has to say that the finding is not simply there.
        tracking_identifier=TrackingIdentifier(uid, f"AI probability (unverified): {finding.name}"),
        finding_type=concept(finding.code),
        algorithm_id=_algorithm(draft),
        finding_sites=[FindingSite(codes.SCT.Chest)],
        measurements=[
            Measurement(
                codes.DCM.CertaintyOfFinding,
                percent(observation.probability),
                codes.UCUM.Percent,
            )
        ],
        qualitative_evaluations=evaluations or None,
        source_images=[
            SourceImageForMeasurementGroup(source.sop_class_uid, source.sop_instance_uid)
        ],
    )


def _algorithm(draft: DraftReport) -> AlgorithmIdentification:
    model = draft.model
    return AlgorithmIdentification(
        name=model.name,
        version=model.version,
        family=codes.DCM.ArtificialIntelligence,
        manufacturer=marks.MANUFACTURER,
        parameters=[
            f"digest=sha256:{model.digest}",
            marks.how_line(draft),
            marks.NOTICE,
            marks.UNCALIBRATED,
            *draft.warnings,
        ],
    )
