#!/bin/bash
#SBATCH --job-name=requeue
#SBATCH --output=requeue-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@60
#SBATCH --mem=100M
#SBATCH --time=00:30:00

# A minute before the time limit: write a checkpoint and queue again.
checkpoint() {
    echo "checkpoint"
    echo 7 > requeue.state
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap checkpoint USR1

if [ -e requeue.state ]; then
    echo "restart ${SLURM_RESTART_COUNT:-0} continues with step $(cat requeue.state)"
    exit 0
fi
echo "from the beginning"
sleep 1800 &
touch requeue.ready
wait
