# Everything a newcomer types. Needs Python 3.11 or newer and make; the rest is set up here.
#
#   make demo     a report for a radiograph, a radiograph for a report, into demo-output/
#   make test     all tests, one of them against a real vLLM
#   make serve    the service on http://127.0.0.1:8080 (LLMCXR_HOST, LLMCXR_PORT)
#   make check    formatting, lint, types, architecture
#   make bench    how fast it is on this machine, beside the published way and vLLM alone: about two
#                 hours, into docs/benchmarks; QUICK=1 only shows that it runs, into runs/bench/
#   make reliability  contract, access, faults, load, kills, aborts: what is promised, measured, into
#                     docs/reliability.json (hours); SHORT=1 a few of each, into runs/reliability/
#   make train-tiny  the whole training chain on drawn pictures, in minutes, into runs/tiny/
#   make image    the container image where no registry can be reached, and a report from it (root)
#   make setup    only the set-up; DEVICE=cuda on a host with an NVIDIA GPU

PYTHON ?= python3
DEVICE ?=
SHORT ?=
QUICK ?=
BIN := .venv/bin

.PHONY: demo test serve check bench reliability train-tiny image setup lock clean

demo: setup
	@$(BIN)/llmcxr demo

test: setup
	@$(BIN)/pytest

serve: setup
	@exec $(BIN)/llmcxr serve

check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy scripts
	$(BIN)/lint-imports
	@if command -v promtool >/dev/null; then \
	    promtool check rules deploy/prometheus/rules/*.yml && \
	    promtool test rules deploy/prometheus/tests/*.yml; \
	else echo "promtool is not installed (Debian: prometheus): alerts are not tested"; fi
	$(BIN)/hadolint Dockerfile

bench: setup
	@$(BIN)/python scripts/bench.py $(if $(QUICK),--quick)

reliability: setup
	@$(BIN)/python scripts/reliability.py all $(if $(SHORT),--short)

image:
	@$(PYTHON) scripts/build_image.py base build try --figures docs/benchmarks/image.json

train-tiny: setup
	@runs/tiny.sh

setup:
	@$(PYTHON) scripts/setup.py --device "$(DEVICE)"

lock: setup
	@$(BIN)/python scripts/lock.py

clean:
	rm -rf runs/tiny .venv checkpoints demo-output .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
