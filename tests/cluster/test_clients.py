"""Programs that nobody here wrote see through every port what they see on a direct connection.

Each goes one tour (`tours/`), as far as it can: logins right and wrong, big results, thousands of
parameters, errors, cursors, cancels, COPY, pipelines, large objects, LISTEN; with `pool: none` and
`pool: session`, with TLS and without, on the primary's port and the replica's; some also through a
`pool: transaction` of one server. What it prints is compared line by line with what it prints of a
direct connection.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd
from pgherd.proof.ports import HOST

ROOT = Path(__file__).resolve().parents[2]
TOURS = Path(__file__).with_name("tours")
DEBIAN = Path("/usr/lib/postgresql/15/bin")
JDBC = Path("/usr/share/java/postgresql.jar")
NODE_PG = "pg@8.23.1"
"""From npm's registry, by name, into .venv/clients."""
DJANGO = "Django==5.2.19"
"""From pip's, the same."""
PGX = Path("/usr/share/gocode/src/github.com/jackc/pgx/v4")
"""Debian's golang-github-jackc-pgx-v4-dev, which needs no module proxy."""

PASSWORD = "right"
LIMIT_S = 220
PORTS = {"none": 5, "session": 6, "none-replica": 7, "session-replica": 8}
"""Beyond those that a node has anyway."""
SHARED = 9
"""The same, of the pool by transaction."""

Way = dict[str, Any]


def open_ways(herd: LocalHerd, name: str) -> None:
    """Listeners of every kind in front of a PostgreSQL that has TLS."""
    place = herd.places[name]
    files = {"cert": place.directory / "pg.crt", "key": place.directory / "pg.key"}
    owner = pwd.getpwnam(layout.postgres_user())
    for kind, file in files.items():
        shutil.copy(place.directory / f"node.{'crt' if kind == 'cert' else 'key'}", file)
        os.chown(file, owner.pw_uid, owner.pw_gid)
        file.chmod(0o600)
    settings = layout.read_settings(place)
    listeners = settings["proxy"]["listeners"] + [
        {
            "port": place.ports.base + more,
            "route": "replica" if label.endswith("replica") else "primary",
            "pool": label.partition("-")[0],
        }
        for label, more in PORTS.items()
    ]
    listeners.append({"port": place.ports.base + SHARED, "route": "primary", "pool": "transaction"})
    tls = {"cert": str(place.directory / "node.crt"), "key": str(place.directory / "node.key")}
    ssl = {"ssl": "on", "ssl_cert_file": str(files["cert"]), "ssl_key_file": str(files["key"])}
    proxy = {"listeners": listeners, "tls": tls, "connect_timeout": "30s"}
    proxy["pools"] = {"size": 1, "reserve": 0}
    changes = {"proxy": proxy, "postgresql": {"parameters": ssl}}
    layout.write_settings(place, layout.merge(settings, changes))


@pytest.fixture(scope="module")
def ways() -> Iterator[list[Way]]:
    """Where clients can connect; the first is the direct one, and is plain."""
    if not (DEBIAN / "psql").exists():
        pytest.skip("needs Debian's PostgreSQL 15, its psql and pgbench")
    with LocalHerd(2, postgres_bin=DEBIAN) as herd:
        for name in herd.nodes:
            open_ways(herd, name)
        herd.start()
        herd.wait_stable(120)
        primary = herd.wait_primary()
        role = f"CREATE ROLE tour LOGIN PASSWORD '{PASSWORD}'"
        herd.query(primary, f"{role}; GRANT ALL ON SCHEMA public TO tour")
        ports = herd.places[herd.nodes[1]].ports
        direct = {"direct": herd.places[primary].ports.postgres}
        through = {label: ports.base + more for label, more in PORTS.items()}
        yield [
            {
                "name": f"{label}{' tls' if tls else ''}",
                "host": HOST,
                "port": port,
                "user": "tour",
                "password": PASSWORD,
                "tls": tls,
                "writes": not label.endswith("replica"),
            }
            for label, port in {**direct, **through}.items()
            for tls in (False, True)
            if tls is False or not label.endswith("replica")
        ]


def with_shared(ways: list[Way]) -> list[Way]:
    """These, and those of the pool by transaction."""
    of_session = [way for way in ways if way["name"] in ("session", "session tls")]
    more = SHARED - PORTS["session"]
    shared = [
        {**way, "port": way["port"] + more, "name": f"shared {way['name']}", "shares": True}
        for way in of_session
    ]
    return [*ways, *shared]


def run(argv: list[str], **more: str) -> str:
    """What a program prints; it must not fail."""
    env = {**os.environ, **more}
    try:
        done = subprocess.run(argv, env=env, capture_output=True, timeout=LIMIT_S, text=True)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"not within {LIMIT_S} s; it said: {late.stdout}") from late
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def compared(printed: str, ways: list[Way], *, least: int) -> None:
    """Every way saw what the direct connection saw, step by step.

    Of a refusal the first line is compared: a port that ends sessions has a hint of its own.
    """
    seen: dict[str, list[tuple[str, str]]] = {way["name"]: [] for way in ways}
    for line in printed.splitlines():
        name, step, what = line.split("\t", 2)
        seen[name].append((step, what))
    direct = seen.pop("direct")
    assert len(direct) >= least, direct
    for way in ways[1:]:
        found = seen[way["name"]]
        expected = direct if way["writes"] else direct[: len(found)]
        assert found == expected, way["name"]
        assert len(found) >= least // 2, (way["name"], found)


@pytest.mark.parametrize(("driver", "least"), [("psycopg", 12), ("asyncpg", 11), ("sqlalchemy", 7)])
def test_python_drivers(ways: list[Way], driver: str, least: int) -> None:
    """psycopg 3 (libpq, with channel binding in TLS), asyncpg, and SQLAlchemy's pool and ORM."""
    pytest.importorskip(driver)
    argv = [sys.executable, str(TOURS / f"tour_{driver}.py"), json.dumps(ways)]
    compared(run(argv), ways, least=least)


@pytest.mark.full
def test_django(ways: list[Way]) -> None:
    """The ORM with connections that stay, bound by client and by server; through the pool by
    transaction with the setting that Django's documentation has for it."""
    folder = ROOT / ".venv" / "clients" / "django"
    if not (folder / "django").exists():
        install = [sys.executable, "-m", "pip", "-q", "install", "--target", str(folder), DJANGO]
        if subprocess.run(install, capture_output=True, timeout=LIMIT_S).returncode != 0:
            pytest.skip(f"pip cannot install {DJANGO}")
    several = with_shared(ways)
    argv = [sys.executable, str(TOURS / "tour_django.py"), json.dumps(several)]
    compared(run(argv, PYTHONPATH=str(folder)), several, least=21)


@pytest.mark.full
def test_pgx(ways: list[Way], tmp_path: Path) -> None:
    """Go's driver, as Debian has it; also through the pool by transaction."""
    go = shutil.which("go")
    if go is None or not PGX.exists():
        pytest.skip("needs Debian's golang-go and golang-github-jackc-pgx-v4-dev")
    offline = {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOPROXY": "off"}
    program = tmp_path / "tour"
    built = {**offline, "GOCACHE": str(tmp_path / "cache"), "GOFLAGS": "-p=1"}
    run([go, "build", "-o", str(program), str(TOURS / "tour.go")], **built)
    several = with_shared(ways)
    printed = run([str(program), json.dumps(several)])
    listened = [line for line in printed.splitlines() if "\tlisten\t" in line]
    assert len(listened) == len([way for way in ways if way["writes"]])
    others = "\n".join(line for line in printed.splitlines() if line not in listened)
    compared(others, several, least=11)


def test_node_pg(ways: list[Way]) -> None:
    """JavaScript's driver."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs node and npm")
    folder = ROOT / ".venv" / "clients"
    if not (folder / "node_modules" / "pg").exists():
        install = [npm, "install", "--silent", "--no-save", "--prefix", str(folder), NODE_PG]
        folder.mkdir(parents=True, exist_ok=True)
        if subprocess.run(install, capture_output=True, timeout=LIMIT_S).returncode != 0:
            pytest.skip(f"npm cannot install {NODE_PG}")
    argv = [node, str(TOURS / "tour.js"), json.dumps(ways)]
    compared(run(argv, NODE_PATH=str(folder / "node_modules")), ways, least=9)


def test_jdbc(ways: list[Way]) -> None:
    """Java's driver, as Debian has it."""
    java = shutil.which("java")
    if java is None or not JDBC.exists():
        pytest.skip("needs a JDK and Debian's libpostgresql-jdbc-java")
    words: list[str] = []
    for way in ways:
        words += [str(way[key]) for key in ("name", "host", "port", "user", "password")]
        words += ["1" if way[key] else "0" for key in ("tls", "writes")]
    printed = run(
        [
            java,
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-cp",
            str(JDBC),
            str(TOURS / "Tour.java"),
            *words,
        ]
    )
    compared(printed, ways, least=24)


def libpq(way: Way) -> dict[str, str]:
    """Where a program of PostgreSQL's own connects."""
    mode = {"PGSSLMODE": "require", "PGCHANNELBINDING": "require"}
    return {
        "PGHOST": way["host"],
        "PGPORT": str(way["port"]),
        "PGUSER": way["user"],
        "PGPASSWORD": way["password"],
        "PGDATABASE": "postgres",
        **(mode if way["tls"] else {"PGSSLMODE": "disable"}),
    }


def test_psql(ways: list[Way]) -> None:
    """Byte for byte, errors with their codes and places too."""

    def printed(way: Way, writes: int) -> str:
        argv = [str(DEBIAN / "psql"), "-X", "-v", f"writes={writes}", "-f", str(TOURS / "tour.sql")]
        done = subprocess.run(
            argv,
            env={**os.environ, **libpq(way)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-2000:]
        return re.sub(r"PID \d+", "PID", done.stdout)

    for writes in (0, 1):
        expected = printed(ways[0], writes)
        assert len(expected) > 1_000_000
        for way in ways[1:]:
            if way["writes"] == bool(writes):
                assert printed(way, writes) == expected, way["name"]
    wrong = [str(DEBIAN / "psql"), "-X", "-c", "SELECT 1"]
    for way in ways:
        env = {**os.environ, **libpq(way), "PGPASSWORD": "wrong"}
        said = subprocess.run(wrong, env=env, capture_output=True, timeout=LIMIT_S, text=True)
        assert 'password authentication failed for user "tour"' in said.stderr, way["name"]


def test_pgbench(ways: list[Way]) -> None:
    """Simple, extended and prepared statements, a connection for each transaction, only reads."""
    pgbench = str(DEBIAN / "pgbench")
    run([pgbench, "-i", "-q"], **libpq(ways[0]))
    modes = (["-M", "simple"], ["-M", "extended"], ["-M", "prepared"], ["-C"], ["-S"])
    for way in ways[1:]:
        for mode in modes if way["writes"] else modes[-1:]:
            argv = [pgbench, "-n", "-c", "2", "-t", "5", *mode]
            said = run(argv, **libpq(way))
            assert "processed: 10/10" in said, (way["name"], mode, said)
            assert "failed transactions: 0 " in said
