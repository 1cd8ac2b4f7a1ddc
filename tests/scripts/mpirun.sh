#!/bin/bash
#SBATCH --job-name=mpirun
#SBATCH --output=mpirun-%j.out
#SBATCH --nodes=2
#SBATCH --ntasks=4
#SBATCH --mem-per-cpu=100M
#SBATCH --time=00:05:00

# The launcher of Open MPI finds the nodes and their slots in Slurm's variables.
mpirun --bind-to none sh -c 'echo "rank $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE"' | sort
