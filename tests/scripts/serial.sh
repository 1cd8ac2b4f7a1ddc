#!/bin/bash
#SBATCH --job-name=serial
#SBATCH --output=serial-%j.out
#SBATCH --ntasks=1
#SBATCH --mem=100M
#SBATCH --time=00:05:00

# One program on one CPU, in the folder that it was submitted from.
echo "$SLURM_JOB_NAME: $SLURM_NTASKS task, $SLURM_MEM_PER_NODE MB"
[ "$PWD" = "$SLURM_SUBMIT_DIR" ] && echo "in the submit directory"
