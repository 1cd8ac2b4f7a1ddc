"""The plug-in by which submitit submits to hpcrun: ``submitit.AutoExecutor(folder, cluster="hpcrun")``.

submitit finds it by its entry points (group ``submitit``) and loads it in every process that uses submitit at all, so
what its modules import at their top is cheap. docs/submitit.md is for its users.
"""
