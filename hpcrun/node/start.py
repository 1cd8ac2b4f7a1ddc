# Starts the runtime that is in node.pyz beside this file. It is not `python node.pyz`, because the module that runs
# zip files costs every shard 4 ms of CPU; and it has to be readable for any Python 3.
import sys

if sys.version_info < (3, 9):
    sys.exit(
        "hpcrun: found Python %d.%d (%s) on this node, wanted 3.9 or newer; set node_python in hpcrun.toml to the "
        "absolute path of one that every node has" % (sys.version_info[0], sys.version_info[1], sys.executable)
    )

sys.path.insert(0, __file__[: -len("start.py")] + "node.pyz")

from hpcrun.node.entry import main

main(sys.argv)
