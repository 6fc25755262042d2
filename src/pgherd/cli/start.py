"""`pgherd start`: read a few options with nothing but the standard library, then supervise.

Owns the options and the search for the configuration file. Leaves everything else to
`daemon.supervise`. What this module imports stays in memory as long as the daemon runs.
"""

from __future__ import annotations

import os
import sys

CONFIG_DEFAULT = "/etc/pgherd/pgherd.yaml"
CONFIG_HOME = ".local/share/pgherd/pgherd.yaml"
LEVELS = ("debug", "info", "warning", "error")
USAGE = """Usage: pgherd start [--config FILE] [--validate] [--log-level LEVEL]

Run this node in the foreground.

  --config FILE      the node's configuration (PGHERD_CONFIG; default /etc/pgherd/pgherd.yaml)
  --validate         only check the configuration
  --log-level LEVEL  debug, info, warning or error
"""


def start(argv: list[str]) -> int:
    """Run the daemon, or only check its configuration; the exit code."""
    options = parse(argv)
    if isinstance(options, int):
        return options
    config = find_config(options.get("config"))
    if config is None:
        return complain(
            f"there is no configuration at {CONFIG_DEFAULT}",
            "pgherd init makes one, or name it with --config FILE",
        )
    if "validate" in options:
        from pgherd.cli.app import run

        return run(["config", "validate", "--config", config])
    if not os.path.exists(config):
        return complain(
            f"there is no configuration at {config}",
            "pgherd init or join makes one, as the user that pgherd runs as",
        )
    if not os.access(config, os.R_OK):
        return complain(f"cannot read {config}", "name another with --config FILE")
    from pgherd.daemon.supervise import main

    return main(config, log_level=options.get("log-level"))


def parse(argv: list[str]) -> dict[str, str] | int:
    """The options, or the exit code of a usage error or of --help."""
    options: dict[str, str] = {}
    rest = list(argv)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        name = name.removeprefix("--") if name.startswith("--") else {"-c": "config"}.get(name, "")
        if name == "help":
            sys.stdout.write(USAGE)
            return 0
        if name == "validate" and not equals:
            options[name] = ""
        elif name in ("config", "log-level") and (equals or rest):
            options[name] = value if equals else rest.pop(0)
        else:
            return complain("this is not how pgherd start is called", "pgherd start --help")
    if options.get("log-level", "info") not in LEVELS:
        return complain(f"--log-level is one of {', '.join(LEVELS)}", "pgherd start --help")
    return options


def find_config(given: str | None) -> str | None:
    """The file that was named, else the one in the usual places; None when there is none."""
    named = given or os.environ.get("PGHERD_CONFIG")
    if named:
        return named
    usual = (CONFIG_DEFAULT, os.path.join(os.path.expanduser("~"), CONFIG_HOME))
    return next((path for path in usual if os.path.exists(path)), None)


def complain(message: str, hint: str) -> int:
    sys.stderr.write(f"pgherd: {message}\n  next: {hint}\n")
    return 2
