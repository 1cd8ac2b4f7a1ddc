"""``python -m hpcrun``."""

from hpcrun.cli import main

main(prog_name="hpcrun")
