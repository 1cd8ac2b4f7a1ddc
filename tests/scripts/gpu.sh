#!/bin/bash
#SBATCH --job-name=gpu
#SBATCH --output=gpu-%j.out
#SBATCH --partition=gpu
#SBATCH --gres=gpu:2
#SBATCH --cpus-per-task=2
#SBATCH --mem=1G
#SBATCH --time=00:05:00

echo "partition $SLURM_JOB_PARTITION"
echo "$CUDA_VISIBLE_DEVICES" | tr ',' '\n' | wc -l
srun --cpus-per-task=2 sh -c 'echo "a step sees $(echo "$CUDA_VISIBLE_DEVICES" | tr "," "\n" | wc -l)"'
