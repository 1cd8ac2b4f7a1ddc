#!/bin/bash
#SBATCH --job-name="my run"
#SBATCH --output=/home/me/.hpcrun/runs/abc/slurm/%j.out
#SBATCH --open-mode=append
#SBATCH --comment=it\'s" "\#1" "hpcrun:abc
#SBATCH --export=ALL
#SBATCH --requeue
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --ntasks=4
#SBATCH --mem-per-cpu=1024M
#SBATCH --time=72
#SBATCH --exclude=bad[1-2]
#SBATCH --exclusive
#SBATCH hetjob
#SBATCH --job-name="my run"
#SBATCH --comment=it\'s" "\#1" "hpcrun:abc
#SBATCH --requeue
#SBATCH --time=72
#SBATCH --exclude=bad[1-2]
#SBATCH --partition=gpu
#SBATCH --constraint=a100&nvlink
#SBATCH --ntasks=3
#SBATCH --cpus-per-task=4
#SBATCH --mem-per-cpu=1536M
#SBATCH --gpus-per-task=a100:2
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive

# Run abc, batch 3: shards 3 to 3 of 5.
# The runtime works out which shard this is, keeps its record and its log, and ends as the program ends.

set -u

exec python3 -I -S /home/me/.hpcrun/runs/abc/start.py shard 3
