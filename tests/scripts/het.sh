#!/bin/bash
#SBATCH --job-name=het
#SBATCH --output=het-%j.out
#SBATCH --ntasks=1 --cpus-per-task=2 --mem-per-cpu=100M
#SBATCH --time=00:05:00
#SBATCH hetjob
#SBATCH --nodes=1 --ntasks=2 --mem-per-cpu=100M

echo "$SLURM_HET_SIZE components"
srun --het-group=0 -N1 -n1 -c2 --mem-per-cpu=100M sh -c 'echo "server with $SLURM_CPUS_ON_NODE CPUs"'
srun --het-group=1 -N1 -n2 -c1 --mem-per-cpu=100M sh -c 'echo "client $SLURM_PROCID"' | sort
