#!/bin/bash
#SBATCH --job-name=first
#SBATCH --output=chain_first-%j.out
#SBATCH --mem=100M
#SBATCH --time=00:05:00

echo 42 > chain.result
echo "computed"
