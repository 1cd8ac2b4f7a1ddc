#!/bin/bash
#SBATCH --job-name=train
#SBATCH --output=/home/me/.hpcrun/runs/abc/slurm/%A_%a.out
#SBATCH --array=0-7%3
#SBATCH --open-mode=append
#SBATCH --comment=hpcrun:abc
#SBATCH --export=ALL
#SBATCH --requeue
#SBATCH --partition=c
#SBATCH --ntasks=3
#SBATCH --cpus-per-task=2
#SBATCH --mem-per-cpu=2048M
#SBATCH --time=72

# Run abc, batch 0: shards 0 to 7 of 8.
# The runtime works out which shard this is, keeps its record and its log, and ends as the program ends.

exec python3 -I -S /home/me/.hpcrun/runs/abc/start.py shard 0
