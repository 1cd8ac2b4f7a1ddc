#!/bin/sh
#PBS -N pbs
#PBS -l nodes=1:ppn=2,walltime=00:05:00
#PBS -j oe
#PBS -o pbs.out
#SBATCH --mem=100M

# From the times of another scheduler; sbatch understands the most common options.
echo "$SLURM_JOB_NAME has $SLURM_NTASKS tasks"
