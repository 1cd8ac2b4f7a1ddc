#!/usr/bin/perl -w
#SBATCH --job-name=perl
#SBATCH --output=perl-%j.out
#SBATCH --mem=100M
use strict;
print "warnings are ", ($^W ? "on" : "off"), " in $ENV{SLURM_JOB_NAME}\n";
