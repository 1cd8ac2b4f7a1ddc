#!/bin/bash
#SBATCH --job-name=hybrid
#SBATCH --output=hybrid-%j.out
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=1G
#SBATCH --time=00:05:00

# srun does not inherit the CPUs of a task since Slurm 22.05.
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
srun sh -c 'echo "rank $SLURM_PROCID: $OMP_NUM_THREADS threads"' | sort
