"""`llmcxr-train ablate`: grids of small runs at equal compute, and what may be concluded."""
