# The first thing that runs on a node, so it must be readable for any Python 3.
import sys

if sys.version_info < (3, 9):
    sys.exit(
        "hpcrun: found Python %d.%d (%s) on this node, wanted 3.9 or newer; set node_python in hpcrun.toml to the "
        "absolute path of one that every node has" % (sys.version_info[0], sys.version_info[1], sys.executable)
    )

from hpcrun.node.entry import main

main(sys.argv)
