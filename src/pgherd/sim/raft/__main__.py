"""`python -m pgherd.sim.raft`: the same as `python -m pgherd.sim raft`."""

import sys

from pgherd.sim.raft.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
