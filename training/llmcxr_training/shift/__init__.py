"""`llmcxr-train shift`: what is left of a checkpoint on other radiographs, and who notices."""
