#!/bin/bash
#SBATCH --output=chdir.out
#SBATCH --mem=100M

echo "in ${PWD##*/}"
[ "$PWD" = "$SLURM_SUBMIT_DIR/work" ] && echo "below the submit directory"
