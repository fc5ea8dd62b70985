#!/usr/bin/env bash
# Rebuild the embedded model `mini` from a sample of HPD v2 (minutes on two cores), and print how good it is.
# Usage: runs/mini.sh [SAMPLE [OUT]]; SAMPLE holds test.json and test/, OUT is for unfinished work and for the results
# before they take their places. Uses the python that is first on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${2:-build/mini}
python -m hpskit train --recipe mini --data "${1:-../shared/data/hpdv2_sample}" --out "$out" \
    --set version=1.0 --set licence=Apache-2.0 --set "data_name=the HPD v2 test set"
cp "$out/mini.safetensors" "$out/mini.training.json" src/hpskit/models/
cp "$out/figures.json" docs/mini.json
