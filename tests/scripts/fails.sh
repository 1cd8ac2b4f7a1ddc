#!/bin/bash
#SBATCH --output=fails-%j.out
#SBATCH --mem=100M

echo "about to fail"
exit 3
