#!/bin/bash
#SBATCH --output=export-%j.out
#SBATCH --mem=100M

echo "CALLER=${CALLER-unset} EMPTY=[${EMPTY-unset}] HOME=${HOME:+set}"
