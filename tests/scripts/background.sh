#!/bin/bash
#SBATCH --job-name=background
#SBATCH --output=background-%j.out
#SBATCH --ntasks=2
#SBATCH --mem-per-cpu=100M
#SBATCH --time=00:05:00

for i in 1 2; do
    srun --exact --ntasks=1 --mem-per-cpu=100M sh -c "echo step $i > background.$i" &
done
wait
cat background.1 background.2
