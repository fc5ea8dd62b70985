#!/usr/bin/env bash
# The paper from download to leaderboard: HPD v2, the model, its accuracy, the benchmark, the studies.
# Usage: runs/hpdv2.sh [--dry-run] [--ablation] [--gpus N] [FOLDER]
#   --dry-run   print every command and check it; train for show, on stand-in data with a small network; no network
#   --ablation  train nine times more, over learning rates and trained blocks
#   --gpus N    8 unless given: the batch is 128 pairs with any number of 1, 2, 4, 8 and more
# FOLDER (hpdv2/) takes some 150 GB. Killed and started again it continues. Uses the python that is first on the PATH.
set -euo pipefail

gpus=8 ablation=no dry=no work=hpdv2
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=yes ;;
        --ablation) ablation=yes ;;
        --gpus) gpus=$2 && shift ;;
        -*) echo "error: $1: is no option; see the head of $0" >&2 && exit 2 ;;
        *) work=$1 ;;
    esac
    shift
done
here=$(cd "$(dirname "$0")" && pwd)
commands=$(mktemp)
trap 'rm -f "$commands"' EXIT

run() { # print a command, then run it, or note it down
    printf '$ %s\n' "$*"
    if [ "$dry" = yes ]; then printf '%q ' "$@" >>"$commands" && echo >>"$commands"; else "$@"; fi
}
once() { # the same, unless its output $1 is there
    local out=$1
    shift
    if [ "$dry" = yes ] || [ ! -e "$out" ]; then run "$@"; fi
}
chapter() { printf '\n# %s\n' "$*"; }

chapter "Data: 645,090 training pairs, the test set with ten people for each prompt, the benchmark's images"
run hpskit data fetch ymhao/HPDv2 --split train --to "$work/data"
run hpskit data fetch ymhao/HPDv2 --split test --to "$work/data"
run hpskit data fetch zhwang/HPDv2 --generator '*' --to "$work/benchmark"
run hpskit data inspect "$work/data/train.json"
# One prompt in fifty chooses the checkpoint, so that the test set chooses nothing.
once "$work/split" hpskit data split "$work/data/train.json" --share 0.02 --out "$work/split"

chapter "People: how far they agree, which is what a model can reach"
run hpskit agreement --data "$work/data/test.json" --out "$work/agreement"

chapter "The model: CLIP ViT-H/14, 4,000 steps of 128 pairs"
run hpskit models fetch clip-score
parts=$((gpus < 8 ? 8 / gpus : 1)) # 16 pairs at a time, as the authors had on each of 8 GPUs
run torchrun --nproc-per-node "$gpus" -m hpskit train --recipe hpsv2 --set "accumulate=$parts" \
    --data "$work/split/train.parquet" --val "$work/split/validation.parquet" --on-broken drop \
    --out "$work/run" --resume
model=$work/run/model.safetensors

chapter "Its accuracy on the test set, beside those that were published"
baselines=(clip-score aesthetic imagereward pickscore hps-v2.0 hps-v2.1)
scorers=()
for name in "${baselines[@]}"; do
    run hpskit models fetch "$name"
    scorers+=(--scorer "$name")
done
run hpskit evaluate --data "$work/data/test.json" --scorer "$model" "${scorers[@]}" --out "$work/evaluation"

chapter "The model for others"
once "$work/hps.pt" hpskit export "$work/run" --to official --out "$work/hps.pt"
once "$work/hub" hpskit export "$work/run" --to huggingface --evaluation "$work/evaluation/result.json" --out "$work/hub"

chapter "The benchmark: the authors' images of each text-to-image model"
images=$work/benchmark/benchmark/benchmark_imgs
if [ "$dry" = yes ]; then models=("$images/Deliberate" "$images/CogView2"); else models=("$images"/*/); fi
results=() folders=()
for folder in "${models[@]}"; do
    name=$(basename "$folder")
    run hpskit benchmark run --images "$folder" --name "$name" --scorer "$model" --scorer hps-v2.1 \
        --out "$work/results/$name.json"
    results+=("$work/results/$name.json")
    folders+=("$name=$folder")
done
run hpskit benchmark leaderboard "${results[@]}" --published --out "$work/leaderboard" --allow-outside

chapter "Studies: how many prompts are enough, and which colours each model likes"
run hpskit study prompts "${results[@]}" --out "$work/prompts"
run hpskit study chrominance "${folders[@]}" --out "$work/chrominance"

if [ "$ablation" = yes ] || [ "$dry" = yes ]; then
    chapter "Ablation (--ablation): learning rate and trained blocks, a GPU for each run"
    run hpskit ablate --recipe hpsv2 --set accumulate=8 --jobs "$gpus" --data "$work/split/train.parquet" \
        --val "$work/split/validation.parquet" --out "$work/ablation" --grid lr=1e-6,3.3e-6,1e-5 image_blocks=10,20,32
fi

if [ "$dry" = yes ]; then
    chapter "Checking"
    python "$here/check_commands.py" "$commands"
fi
