"""What runs inside the allocation: standard library only, Python 3.9 or newer, packed into each run's node.pyz.

A supervisor is started for every shard, so its start-up time counts: nothing here imports ``json``, ``subprocess``,
``signal``, ``dataclasses`` or ``typing``, each of which costs as much CPU as starting Python itself. Nothing
outside imports this package.
"""
