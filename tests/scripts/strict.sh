#!/usr/bin/env -S bash -eu -o pipefail
#SBATCH --output=strict-%j.out
#SBATCH --mem=100M

echo "options ${-//[^eu]/}"
false | true
echo "not reached"
