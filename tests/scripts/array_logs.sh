#!/bin/bash
#SBATCH --job-name=logs
#SBATCH --array=3,7
#SBATCH --output=logs/%A_%a.out
#SBATCH --error=logs/%A_%a.err
#SBATCH --mem=100M
#SBATCH --time=00:05:00

echo "output of $SLURM_ARRAY_TASK_ID"
echo "errors of $SLURM_ARRAY_TASK_ID" >&2
