"""The phrases that mention a finding, and those that deny or doubt it. Data only.

Fourteen observations of CheXpert (Irvin et al., arXiv 1901.07031); phrases are our own, read
from the training split's reports.
"""

from __future__ import annotations

NO_FINDING = "No Finding"
SUPPORT_DEVICES = "Support Devices"

MENTIONS: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (
        r"(widen\w*|enlarge\w*|prominen\w*) (of )?(the )?(superior |upper )?(cardio)?mediastin\w+",
        r"mediastin\w+( contour| silhouette)? (is|are|appears?) ([a-z]+ )?(widened|enlarged)",
        r"mediastinal (widening|enlargement)",
    ),
    "Cardiomegaly": (
        r"cardiomegaly",
        r"cardiac enlargement",
        r"(enlarge\w*|large) (of )?(the )?(heart|cardiac silhouette|cardiomediastinal silhouette)",
        r"(heart|cardiac)( size| silhouette| contours?)?,? (\w+ ){0,4}(enlarged|large|increased)",
    ),
    "Lung Lesion": (
        r"nodul\w+",
        r"\bmass(es)?\b",
        r"(lung|pulmonary) lesions?",
        r"neoplasm",
        r"tumou?r",
        r"metasta\w+",
        r"granulomas?\b",
    ),
    "Lung Opacity": (
        r"opaci\w+",
        r"infiltrat\w+",
        r"airspace disease",
        r"air space disease",
        r"densit(y|ies)",
        r"interstitial (markings|disease|changes)",
    ),
    "Edema": (r"o?edema", r"(vascular|venous|pulmonary) congestion", r"kerley", r"heart failure"),
    "Consolidation": (r"consolidat\w+",),
    "Pneumonia": (r"pneumonia\w*", r"(?<!granulomatous )infection", r"infectious process"),
    "Atelectasis": (r"atelecta\w+", r"volume loss", r"lobar collapse"),
    "Pneumothorax": (r"pneumothora\w+",),
    "Pleural Effusion": (
        r"effusions?",
        r"pleural fluid",
        r"blunt\w* (of )?(the )?(\w+ ){0,3}(costophrenic|cp|pleural)",
        r"costophrenic (\w+ ){1,4}blunt\w+",
    ),
    "Pleural Other": (r"pleural (thickening|scar\w*|plaques?|calcification)", r"fibrothorax"),
    "Fracture": (r"fractur\w+",),
    SUPPORT_DEVICES: (
        r"(picc|central venous|endotracheal|tracheostomy|nasogastric|ng|chest|feeding) (line|tube)",
        r"catheters?",
        r"pacemaker|pacer|icd\b|defibrillator",
        # The wires stay, and are often the word that was redacted: "XXXX sternotomy XXXX".
        r"sternotom\w+|sternal wires|cerclage",
        r"(surgical|vascular) clips",
        r"port-?a-?cath",
        r"\bstents?\b|prosthe\w+|hardware",
    ),
}
"""Mention patterns by observation; matched in lower case."""

FINDINGS: tuple[str, ...] = (NO_FINDING, *MENTIONS)

DENIED_BEFORE = (
    r"\bno\b",
    r"\bnot\b",
    r"\bwithout\b",
    r"\bnegative (for )?",
    r"\bfree of\b",
    r"\bclear of\b",
    r"\babsence of\b",
    r"\bresol(ved|ution of)\b",
    r"\bneither\b|\bnor\b",
    r"\brather than\b",
    r"\bremoval of\b",
    r"\b(normal|unremarkable)\b",
)
"""Words before a mention, in the same clause, that deny it."""

DENIED_AFTER = (
    r"\b(is|are|was|were) (not|no longer)\b",
    r"\bnot (seen|identified|appreciated|visuali[sz]ed|demonstrated|present|evident|enlarged)",
    r"\b(has|have) (resolved|cleared)\b",
    r"\bresolved\b",
    r"\b(is|are) (absent|excluded|unlikely)\b",
    r"\b(is|are) (within normal limits|normal|unremarkable)\b",
)
"""Words after a mention, in the same clause, that deny it."""

DOUBTED_BEFORE = (
    r"\b(may|might|could|can) (be|represent|reflect|indicate|suggest|relate)\b",
    r"\b(may|might|could)\b",
    r"\bpossibl[ey]\b|\bpossibility\b",
    r"\bquestion\w*\b",
    r"\bsuspicious for\b|\bsuspected\b|\bconcern\w*\b",
    r"\bsuggest\w*\b",
    r"\bversus\b|\bvs\b",
    r"\bborderline\b|\bupper limits?\b",
    r"\bcannot (be )?(exclude|rule out)\b",
    r"\brule out\b",
    r"\band/or\b",
    r"\bor\b",
    r"\bdifferential\b",
)
"""Words before a mention, in the same clause, that leave it open."""

DOUBTED_AFTER = (
    r"\bversus\b|\bvs\b",
    r"\b(cannot|can not|not) (be )?(excluded|ruled out)\b",
    r"\b(is|are) (possible|suspected|questionable)\b",
    r"\bnot entirely excluded\b",
    r"\bupper limits? of normal\b",
)
"""Words after a mention, in the same clause, that leave it open."""

ALTERNATIVE_AFTER = r"^,? ?(and/or|or)\b"
"""A mention that is one of several explanations, unless it is denied."""

CLAUSE_END = r"\bbut\b|\bhowever\b|\balthough\b|\bexcept\b|\bwhile\b|\bwhich\b|;|:"
"""Where the reach of a denial or a doubt ends."""

NORMAL_HEART = (
    r"(heart|cardiac|cardiomediastinal|cardio mediastinal)[^.;]*"
    r"(normal|unremarkable|not enlarged|within normal limits)",
    r"normal (heart|cardiac|cardiomediastinal)",
)
"""Sentences that deny an enlarged heart without naming it."""

BORDERLINE = r"\bupper limits?\b|\bborderline\b|\bupper normal\b"
"""Makes a statement of a normal heart a doubt."""

CLEAR_LUNGS = (
    r"lungs?[^.;]* (clear|unremarkable)\b",
    r"clear lungs",
)
"""Sentences that deny opacity and consolidation without naming them."""

DENIED_BY_CLEAR_LUNGS = ("Lung Opacity", "Consolidation")
