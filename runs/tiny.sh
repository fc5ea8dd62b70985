#!/usr/bin/env bash
# The whole story on a laptop, in a minute or two and with nothing downloaded: prompts, images, a leaderboard, people who
# judge, a scorer of one's own, and how good it is. runs/hpdv2.sh tells it again with the data and the network of the paper.
# Usage: runs/tiny.sh [FOLDER [N]]    # FOLDER is new, tiny/ unless given; N: number of prompts, 40 unless given
set -euo pipefail

work=${1:-tiny} prompts=${2:-40}
here=$(cd "$(dirname "$0")" && pwd)
chapter() { printf '\n# %s\n' "$*"; }
run() { printf '\n$ %s\n' "$*" && "$@"; }
mkdir "$work"

chapter "Prompts as people type them are cleaned, and some of them chosen"
run hpskit prompts import "$here/raw_prompts.txt" --out "$work/raw.jsonl"
run hpskit prompts clean "$work/raw.jsonl" --out "$work/clean.jsonl"
run hpskit prompts select "$work/clean.jsonl" --n "$prompts" --out "$work/suite.jsonl"
run hpskit prompts report "$work/clean.jsonl" --out "$work/prompts.html"

chapter "Three models paint them: a good one, a middling one, and a poor one"
run hpskit images generate --prompts "$work/suite.jsonl" --generators "$here/painters.toml" --out "$work/images"
run hpskit images check "$work/images" --out "$work/images.html"

chapter "The embedded scorer judges them, and the leaderboard finds their order"
for model in fine plain poor; do
    run hpskit benchmark run --suite "$work/suite.jsonl" --images "$work/images/$model" --name "Painter, $model" \
        --meta "$work/images/$model.json" --out "$work/results/$model.json"
done
run hpskit benchmark leaderboard "$work"/results/*.json --out "$work/leaderboard" --allow-outside

chapter "Five people rank the images of each prompt on a page; they are made up, and err now and then"
run hpskit annotate init "$work/people" --images "$work/images" --name "Which picture is better?" --overlap 5
hpskit annotate serve "$work/people" --port 0 >"$work/server.txt" & server=$!
trap 'kill $server 2>/dev/null || true' EXIT
for _ in $(seq 300); do grep -q researcher: "$work/server.txt" && break || sleep 0.2; done
address=$(sed -n 's#^researcher: \(http://[^/]*\)/.*#\1#p' "$work/server.txt")
[ -n "$address" ] || { cat "$work/server.txt"; exit 1; }
run hpskit annotate simulate "$work/people" --server "$address" --annotators 6 --worth fine=4 --worth plain=2 --worth poor=0
kill $server && wait $server || true
run hpskit annotate export "$work/people" --to rankings --out "$work/votes"
run hpskit data inspect "$work/votes"
run hpskit agreement --data "$work/votes" --out "$work/agreement"

chapter "Of the prompts a quarter is put aside for the end, and a fifth of the rest chooses the checkpoint"
run hpskit data split "$work/votes" --share 0.25 --out "$work/aside"
run hpskit data split "$work/aside/train.parquet" --share 0.2 --allow-outside --out "$work/split"

chapter "A scorer of our own learns what they like: a network for trying things, from nothing"
run hpskit train --recipe tiny --set steps=60 --set batch=16 --set validate_every=20 --set save_every=20 \
    --data "$work/split/train.parquet" --val "$work/split/validation.parquet" --out "$work/run" --device cpu

chapter "How well does it predict what people prefer? These prompts it has not seen"
model=$work/run/model.safetensors
run hpskit evaluate --allow-outside --data "$work/aside/validation.parquet" --scorer "$model" --scorer mini --scorer random \
    --out "$work/evaluation"

chapter "Is the good model better than the middling one? Each scorer says by how much"
run hpskit compare "$work/images/plain" "$work/images/fine" --prompts "$work/suite.jsonl" --scorer "$model" \
    --scorer mini --out "$work/compared"

chapter "Pages to open in a browser"
cd "$work" && ls "$PWD"/{prompts,images,leaderboard/leaderboard,agreement/report,run/report,evaluation/report,compared/compare}.html
