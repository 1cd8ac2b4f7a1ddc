#!/bin/bash
#SBATCH --job-name=mpirun
#SBATCH --output=mpirun-%j.out
#SBATCH --nodes=2
#SBATCH --ntasks=4
#SBATCH --mem-per-cpu=100M
#SBATCH --time=00:05:00

# The launcher of Open MPI finds the nodes and their slots in Slurm's variables.
# It asks srun for its version, and on a busy machine now and then does not hear the answer (PRRTE 3): then once more.
for _ in 1 2 3; do
    ranks=$(mpirun --bind-to none sh -c 'echo "rank $OMPI_COMM_WORLD_RANK of $OMPI_COMM_WORLD_SIZE"' 2>mpirun.err | sort)
    [ "$(grep -c '^rank' <<<"$ranks")" = 4 ] && break
done
echo "$ranks"
