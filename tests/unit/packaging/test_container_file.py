"""The container file agrees with the package that it installs and with the node that it starts."""

from __future__ import annotations

import configparser
import json
import re
from fnmatch import fnmatch
from pathlib import Path

from pgherd.cli.place import DIRECTORY_ROOT
from pgherd.cli.reference import commands
from pgherd.cli.start import CONFIG_DEFAULT
from pgherd.config.load import load_text
from pgherd.daemon import supervise

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "packaging" / "Containerfile").read_text()
STEPS = [
    (word, " ".join(rest.split()))
    for word, rest in re.findall(r"^([A-Z]+) (.*)$", re.sub(r"\\\\\n", " ", TEXT), re.MULTILINE)
]
ALL = dict(STEPS)


def test_it_copies_what_the_build_makes() -> None:
    """`./dev deb` writes into dist, by the name that the version and the architecture give."""
    source, _ = ALL["COPY"].split()
    built = (ROOT / "packaging" / "deb.py").read_text()
    assert 'default=ROOT / "dist"' in built
    assert 'f"pgherd_{version()}_{architecture()}.deb"' in built
    assert fnmatch("dist/pgherd_0.1.0-1_amd64.deb", source)
    ignored = [ROOT / name for name in (".dockerignore", ".containerignore")]
    assert not [path for path in ignored if path.exists() and "dist" in path.read_text()]


def test_it_runs_as_the_unit_does() -> None:
    """The same user, the same directories, and a signal that stops in order."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.read(ROOT / "packaging" / "pgherd.service")
    assert ALL["USER"] == unit["Service"]["User"]
    assert json.loads(ALL["VOLUME"]) == [str(Path(CONFIG_DEFAULT).parent), str(DIRECTORY_ROOT)]
    assert ALL["STOPSIGNAL"] == "SIGTERM"
    [seconds] = re.findall(r"--time (\d+)", TEXT)
    assert int(seconds) > supervise.STOP_S
    program, *words = json.loads(ALL["CMD"])
    assert program == "pgherd"
    assert " ".join(words) in dict(commands())
    name, _, place = ALL["ENV"].partition("=")
    assert name in Path(supervise.__file__).read_text()
    assert place in json.loads(ALL["VOLUME"])


def test_it_opens_the_ports_of_a_node() -> None:
    text = "version: 1\nnode: {name: n1, address: 127.0.0.1}\npostgresql: {}\n"
    settings = load_text(text)
    ways = {5432, 5433}
    """What `init` writes (docs/guide/first-cluster.md)."""
    ports = {settings.postgresql.port, settings.api.port, settings.raft.port} | ways
    assert set(map(int, ALL["EXPOSE"].split())) == ports
