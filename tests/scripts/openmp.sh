#!/bin/bash
#SBATCH -J openmp
#SBATCH -o openmp-%j.out
#SBATCH -N 1
#SBATCH -n 1
#SBATCH -c 4
#SBATCH --mem-per-cpu=100M
#SBATCH -t 5

export OMP_NUM_THREADS=$SLURM_CPUS_PER_TASK
export OMP_PLACES=cores
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" sh -c 'echo "$OMP_NUM_THREADS threads, $SLURM_CPUS_ON_NODE CPUs"'
