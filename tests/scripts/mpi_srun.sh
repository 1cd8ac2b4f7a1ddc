#!/bin/bash
#SBATCH --job-name=mpi-srun
#SBATCH --output=%x.%j.out
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=2
#SBATCH --mem-per-cpu=100M
#SBATCH --time=00:05:00

echo "$SLURM_JOB_NUM_NODES nodes, $SLURM_NTASKS tasks"
srun sh -c 'echo "rank $SLURM_PROCID of $SLURM_NTASKS, node $SLURM_NODEID"' | sort
