#!/bin/sh
# The whole chain on drawn pictures and a random language model, in minutes on two cores:
# pictures and reports -> VQ-GAN -> judge -> gate -> stage 1 -> stage 2 -> release -> checkpoint.
# It shows that everything fits together; what comes out says nothing about radiographs.
#
#   runs/tiny.sh [FOLDER]        FOLDER is made, default runs/tiny; `make train-tiny` does this
set -eu
export OMP_WAIT_POLICY=PASSIVE

root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-"$root/runs/tiny"}
configs="$root/training/configs/tiny"
train() { "${PYTHON:-$root/.venv/bin/python}" -m llmcxr_training "$@"; }

mkdir -p "$folder"
cd "$folder"

# 66 patients, patient-wise splits, some with two visits or a lateral view; a model of 30,000 weights.
train synthesise data
# 32x32 pixels to 4x4 codes of 16.
train vqgan "$configs/vqgan.toml"
train judge "$configs/judge.toml"
# Tells upright chest radiographs from everything else, for the service.
train gate "$configs/gate.toml"
# Every view, findings and impression; then frontal views of first visits, impressions alone.
train finetune "$configs/stage1.toml"
train finetune "$configs/stage2.toml"
# What is published: the difference to the base model. What is served: the two merged.
train publish "$configs/stage2.toml" release --gate gate --name tiny --max-model-len 400
train assemble release --base data/base --output checkpoint
