#!/usr/bin/env bash
# Is a model better with a LoRA? Is it better when it begins from a retrieved image instead of from noise? Each variant
# makes the images of the same prompts from the same seeds, and `hpskit compare` says by how much and how sure that is.
# The pipeline here is tiny and has random weights, so that nothing is downloaded and the answer means nothing: for one
# that does, name a real model, LoRA and folder of photographs below.
# Usage: runs/lora_and_retrieval.sh [FOLDER [N]]    # FOLDER is new; N: number of prompts, 12 unless given
set -euo pipefail

work=${1:-lora_and_retrieval} prompts=${2:-12}
here=$(cd "$(dirname "$0")" && pwd)
chapter() { printf '\n# %s\n' "$*"; }
run() { printf '\n$ %s\n' "$*" && "$@"; }
mkdir "$work"
head -n "$prompts" "$here/demo_prompts.jsonl" >"$work/suite.jsonl"

chapter "A pipeline, a LoRA of it, and a CLIP, all of random weights; paintings to retrieve from"
run python "$here/tiny_pipeline.py" "$work/weights"
run hpskit images generate --prompts "$work/suite.jsonl" --generators "$here/painters.toml" --out "$work/paintings"

chapter "The base, the base with the LoRA, and the base that begins from the painting that fits a prompt best"
base="kind = 'diffusers'
model = '$work/weights/base'
width = 64
height = 64
steps = 8"
cat >"$work/generators.toml" <<TOML
[[generator]]
name = 'base'
$base

[[generator]]
name = 'lora'
lora = [{ file = '$work/weights/lora.safetensors', weight = 0.8 }]
$base

[[generator]]
name = 'retrieval'
retrieve = { folder = '$work/paintings/fine', clip = '$work/weights/clip', strength = 0.5 }
$base
TOML
run hpskit images generate --prompts "$work/suite.jsonl" --generators "$work/generators.toml" --out "$work/images"

chapter "Which is better?"
for variant in lora retrieval; do
    run hpskit compare "$work/images/base" "$work/images/$variant" --prompts "$work/suite.jsonl" --scorer mini \
        --out "$work/compared/$variant"
done
