"""`llmcxr-train reader-study`: a blinded study by human readers: prepare, serve, analyse."""
