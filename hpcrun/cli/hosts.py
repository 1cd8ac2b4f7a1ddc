"""hpcrun hosts."""

from __future__ import annotations

import sys

import click

from hpcrun import hostlist


@click.group()
def command() -> None:
    """Expand, fold and count Slurm hostlists, as `scontrol show hostnames` and `hostlist` do; order is kept."""


def _given(texts: tuple[str, ...]) -> list[str]:
    return list(texts) if texts else sys.stdin.read().split()


@command.command()
@click.argument("texts", metavar="[HOSTLIST]…", nargs=-1)
def expand(texts: tuple[str, ...]) -> None:
    """Print each host of HOSTLIST (or of standard input) on a line."""
    for host in hostlist.expand(",".join(_given(texts))):
        click.echo(host)


@command.command()
@click.argument("texts", metavar="[HOST]…", nargs=-1)
def fold(texts: tuple[str, ...]) -> None:
    """Print the hosts (or those of standard input) as one hostlist."""
    click.echo(hostlist.fold(hostlist.expand(",".join(_given(texts)))))


@command.command()
@click.argument("texts", metavar="[HOSTLIST]…", nargs=-1)
def count(texts: tuple[str, ...]) -> None:
    """Print how many hosts HOSTLIST (or standard input) names."""
    click.echo(hostlist.count(",".join(_given(texts))))
