#!/bin/bash
#SBATCH --job-name=multiprog
#SBATCH --output=multiprog-%j.out
#SBATCH --ntasks=3
#SBATCH --mem-per-cpu=100M
#SBATCH --time=00:05:00

cat > multiprog.conf <<'END'
0    echo master
1-2  echo worker %t of two, %o
END
srun --multi-prog multiprog.conf | sort
