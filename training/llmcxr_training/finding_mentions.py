"""Moved to llmcxr_models.finding_mentions; this name goes with the next commit."""

from llmcxr_models.finding_mentions import *  # noqa: F403
