#!/bin/bash
#SBATCH --output=arguments-%j.out
#SBATCH --mem=100M

echo "$# arguments"
for argument in "$@"; do
    echo "[$argument]"
done
