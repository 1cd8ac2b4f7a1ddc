#!/bin/bash
#SBATCH --job-name=zero
#SBATCH --output=zero-%j.out
#SBATCH --mem=100M
## usage: zero.sh prints these lines of itself

[ "$0" = "${BASH_SOURCE[0]}" ] && echo "the script is what runs"
echo "name ${0##*/}"
sed -n 's/^## //p' "$0"
