#!/bin/bash
#SBATCH --job-name=resubmit
#SBATCH --output=resubmit.out
#SBATCH --open-mode=append
#SBATCH --mem=100M
#SBATCH --time=00:05:00

# A long computation in parts of a job each; the first argument counts them.
part=${1:-1}
echo "part $part"
if [ "$part" -lt 3 ]; then
    cd "$SLURM_SUBMIT_DIR" || exit 1
    sbatch --dependency="afterany:$SLURM_JOB_ID" resubmit.sh $((part + 1)) > /dev/null
fi
