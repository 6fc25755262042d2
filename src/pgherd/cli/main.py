"""The entry point. `pgherd start` takes a short way, so that a daemon never loads the CLI's
libraries, and so do `wal-push` and `wal-fetch`; everything else goes on in `app`.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    argv = sys.argv[1:]
    if argv[:1] == ["start"]:
        from pgherd.cli.start import start

        sys.exit(start(argv[1:]))
    if argv[:1] in (["wal-push"], ["wal-fetch"]):
        from pgherd.postgres import walprogram

        sys.exit(walprogram.main(argv))
    from pgherd.cli.app import run

    sys.exit(run(argv))


if __name__ == "__main__":
    main()
