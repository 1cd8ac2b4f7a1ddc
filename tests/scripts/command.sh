#!/bin/bash
#SBATCH --output=command-%j.out
#SBATCH --mem=100M

# Slurm runs a copy, so where the script itself is only Slurm knows.
script=$(scontrol show job "$SLURM_JOB_ID" | sed -n 's/^ *Command=//p')
echo "submitted as ${script##*/}"
