#!/usr/bin/env bash
# Fit the embedded model `mini` again from a sample of HPD v2 (minutes on two cores), and print how good it is and how far
# its scores are from those of the embedded weights, which stay as they are.
# Usage: runs/mini/run.sh [SAMPLE [OUT]]; SAMPLE holds test.json and test/, OUT is new. Uses the python on the PATH.
set -euo pipefail
cd "$(dirname "$0")/../.."
python runs/mini/fit.py "${1:-../shared/data/hpdv2_sample}" "${2:-build/mini}"
