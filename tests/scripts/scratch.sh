#!/bin/bash
#SBATCH --job-name=scratch
#SBATCH --output=scratch-%j.out
#SBATCH --mem=100M
#SBATCH --time=00:05:00

# Work on the node's own disk; whatever happens, results are copied back and nothing is left.
scratch=$(mktemp -d)
finish() {
    cp "$scratch"/result.dat "$SLURM_SUBMIT_DIR/scratch.result"
    rm -rf "$scratch"
    echo "copied back"
}
trap finish EXIT

cp parameters.txt "$scratch"
cd "$scratch" || exit 1
wc -l < parameters.txt > result.dat
echo "computed in scratch"
