#!/bin/bash
#SBATCH --output=apart.out
#SBATCH --error=apart.err
#SBATCH --mem=100M

echo "to standard output"
echo "to standard error" >&2
