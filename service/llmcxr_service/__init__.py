"""The HTTP service: a radiograph in, a report out, and the other way round.

FastAPI in front, vLLM behind; only token ids cross to vLLM. Built on `llmcxr_models`, and it
neither imports transformers nor vLLM.
"""
