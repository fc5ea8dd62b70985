#!/usr/bin/env bash
#SBATCH --job-name=hpskit-score
#SBATCH --array=1-8              # parts; a part takes every 8th shard
#SBATCH --gpus=1
#SBATCH --cpus-per-task=12       # decoding: docs/cluster.md says how many a GPU needs
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --requeue                # a part that was killed goes on where it stopped
# Score shards by plain processes that Slurm starts, one for each GPU; the last to end counts all rows.
# Usage: sbatch runs/slurm_score.sh INPUT OUTPUT [MODEL]
set -euo pipefail

input=$1 output=$2 model=${3:-hps-v2.1}
part=${SLURM_ARRAY_TASK_ID:-1}/${SLURM_ARRAY_TASK_COUNT:-1}
srun=(); if command -v srun >/dev/null && [ -n "${SLURM_JOB_ID:-}" ]; then srun=(srun); fi
"${srun[@]}" hpskit cluster score --input "$input" --output "$output" --model "$model" --engine plain --part "$part"
