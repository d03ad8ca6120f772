"""`llmcxr-train evaluate`: every published figure of a checkpoint, with intervals and baselines."""
