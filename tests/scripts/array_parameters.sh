#!/bin/bash
#SBATCH --job-name=parameters
#SBATCH --output=parameters-%A_%a.out
#SBATCH --array=1-4
#SBATCH --mem=100M
#SBATCH --time=00:05:00

# Element n takes line n of the file.
read -r alpha beta <<<"$(sed -n "${SLURM_ARRAY_TASK_ID}p" parameters.txt)"
echo "element $SLURM_ARRAY_TASK_ID: alpha=$alpha beta=$beta"
