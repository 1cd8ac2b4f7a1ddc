#!/bin/bash
#SBATCH --job-name="my run"
#SBATCH --output=/home/me/.hpcrun/runs/abc/slurm/%A_%a.out
#SBATCH --array=0-998%10
#SBATCH --open-mode=append
#SBATCH --comment=it\'s" "\#1" "hpcrun:abc
#SBATCH --export=ALL
#SBATCH --requeue
#SBATCH --cpus-per-task=2
#SBATCH --mem-per-cpu=4096M
#SBATCH --gpus=a100:1
#SBATCH --time=62
#SBATCH --partition=gpu
#SBATCH --exclusive

# Run abc, batch 1: shards 1001 to 1999 of 2000.
# The runtime works out which shard this is, keeps its record and its log, and ends as the program ends.

module load cuda
set -u

exec python3 -I -S /home/me/.hpcrun/runs/abc/start.py shard 1
