#!/bin/bash
#SBATCH --job-name=second
#SBATCH --output=chain_second-%j.out
#SBATCH --mem=100M
#SBATCH --time=00:05:00

echo "the first one left $(cat chain.result)"
