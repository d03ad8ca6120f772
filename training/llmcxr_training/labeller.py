"""Moved to llmcxr_models.labeller; this name goes with the next commit."""

from llmcxr_models.finding_mentions import FINDINGS as FINDINGS
from llmcxr_models.labeller import Mention as Mention
from llmcxr_models.labeller import label as label
from llmcxr_models.labeller import positives as positives
from llmcxr_models.labeller import sentences as sentences
