#!/bin/bash -l
#SBATCH --job-name=login
#SBATCH --output=login-%j.out
#SBATCH --mem=100M

shopt -q login_shell && echo "a login shell"
