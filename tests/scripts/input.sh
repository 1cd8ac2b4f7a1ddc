#!/bin/bash
#SBATCH --input=parameters.txt
#SBATCH --output=input-%j.out
#SBATCH --mem=100M

while read -r alpha beta; do
    echo "$beta is $alpha"
done
