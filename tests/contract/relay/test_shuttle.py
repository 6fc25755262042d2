"""Proves that the shuttle keeps bytes, turns and memory whole, and what it knows of statements."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ATTACK = Path(__file__).parent / "hostile_shuttle.py"
LIMIT_S = 110
CYCLES = int(os.environ.get("PGHERD_SOAK", "400"))
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g"]

shuttle = pytest.importorskip("pgherd.relay._shuttle", reason="needs the shuttle in C")


def attack(extension: str, *, seed: int, cycles: int, env: dict[str, str] | None = None) -> None:
    """Run the attack, and show what it said where it failed."""
    done = subprocess.run(
        [sys.executable, str(ATTACK), extension, str(seed), str(cycles)],
        capture_output=True, text=True, timeout=LIMIT_S, env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert "cycles=" in done.stdout


@pytest.mark.parametrize("seed", [1, 2])
def test_turns_stay_whole_under_attack(seed: int) -> None:
    attack(shuttle.__file__, seed=seed, cycles=2 * CYCLES)


def test_memory_stays_whole_under_attack(
    shuttle_sources: list[Path], tmp_path: Path, libasan: str
) -> None:
    """Whatever a sanitizer finds is fatal."""
    extension, headers = tmp_path / "_shuttle.so", sysconfig.get_paths()["include"]
    subprocess.run(
        ["gcc", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *SANITIZERS,
         f"-I{headers}", *map(str, shuttle_sources), "-o", str(extension)],
        check=True,
    )  # fmt: skip
    options = "detect_leaks=0:abort_on_error=0:exitcode=99"  # the interpreter leaks by design
    env = {"LD_PRELOAD": libasan, "ASAN_OPTIONS": options, "PYTHONMALLOC": "malloc"}
    attack(str(extension), seed=3, cycles=CYCLES // 4, env=env)


@pytest.fixture
def one() -> Iterator[Any]:
    found = shuttle.Shuttle((5,))
    yield found
    found.close()


ALIKE = [
    (b"SELECT 1", b"SELECT 234"),
    (b"SELECT 1.5, 'a'", b"SELECT 0.25, 'it is something else; really'"),
    (b"INSERT INTO t1 VALUES ('')", b"INSERT INTO t1 VALUES ('longer than before')"),
    (b"SELECT $1 FROM t WHERE a = 1", b"SELECT $1 FROM t WHERE a = 99"),
    (b"SELECT \"a 1\" FROM t WHERE b='x'", b"SELECT \"a 1\" FROM t WHERE b='y'"),
]
OTHERS = [
    (b"SELECT a1 FROM t", b"SELECT a2 FROM t"),
    (b"SELECT $1", b"SELECT $2"),
    (b'SELECT "a 1"', b'SELECT "a 2"'),
    (b"SELECT 'a'", b"SELECT 'a', 'b'"),
    (b"SELECT 'a' -- 1", b"SELECT 'b' -- 1"),
    (b"SELECT /* 1 */ 2", b"SELECT /* 1 */ 3"),
    (rb"SELECT E'\'' || 'a'", rb"SELECT E'\'' || 'b'"),
    (b"SELECT $a$1$a$", b"SELECT $a$2$a$"),
    (b"SELECT 'no end", b"SELECT 'no END"),
    (b"SELECT 'a''b'", b"SELECT 'a'"),
]


@pytest.mark.parametrize(("learned", "asked"), ALIKE)
def test_a_statement_with_other_literals_is_the_same_one(
    one: Any, learned: bytes, asked: bytes
) -> None:
    assert one.known(0, asked) is None
    one.learn(0, learned, True)
    assert one.known(0, asked) is True
    one.learn(0, learned, False)
    assert one.known(0, asked) is False
    assert one.known(1, learned) is None, "nothing was said of it there"


@pytest.mark.parametrize(("learned", "asked"), OTHERS)
def test_another_statement_is_not(one: Any, learned: bytes, asked: bytes) -> None:
    one.learn(0, learned, True)
    assert one.known(0, learned) is True
    assert one.known(0, asked) is None


@pytest.mark.parametrize(
    "literal",
    [b"create TEMP table x ()", b"set_config", b"LISTEN a", b"pg_advisory_lock(1)", b"a lastval",
     b"SET synchronous_commit = off", b"client_min_messages", b"with hold", b"dblink_connect"],
)  # fmt: skip
def test_a_literal_that_may_be_code_makes_no_plain_statement(one: Any, literal: bytes) -> None:
    one.learn(0, b"SELECT run('harmless')", True)
    assert one.known(0, b"SELECT run('a plain word')") is True
    assert one.known(0, b"SELECT run('" + literal + b"')") is False


def test_many_statements_are_learned_and_the_memory_for_them_is_bounded(one: Any) -> None:
    for number in range(60_000):
        one.learn(0, b"SELECT a%d" % number, True)
    assert one.known(0, b"SELECT a59999") is True
    assert one.known(0, b"SELECT a1") is None


def test_who_waits_for_long_waits_elsewhere(one: Any) -> None:
    pool = one.pool()
    inner, outer = socket.socketpair()
    with inner, outer:
        assert one.put_client(4, inner.fileno(), (pool,), 1, 0, [])
        one.learn(0, b"SELECT 1", True)
        outer.sendall(b"Q\0\0\0\x0dSELECT 1\0")
        found: list[tuple[Any, ...]] = []
        while len(found) < 2:
            ready, _, _ = select.select([one.fileno()], [], [], 20)
            assert ready, "nothing comes"
            found += one.news()
        assert found[0] == (2, pool), "a server is asked for"
        kind, client, _, why, server, *_ = found[1]
        assert (kind, client, why, server) == (0, 4, 4, 0)
        assert b"Q\0\0\0\x0dSELECT 1\0" in found[1]
        assert found[1][-1] >= 250, "since when it waits goes along"


def test_what_makes_no_sense_is_refused(one: Any) -> None:
    with pytest.raises(ValueError, match="no such pool"):
        one.put_client(1, 0, (9,), 1, 0, [])
    with pytest.raises(ValueError, match="pools: 1 to 8"):
        one.put_client(1, 0, (), 1, 0, [])
    pool = one.pool()
    assert not one.put_server(1, 1_000_000, pool, 1, []), "there is no such socket"
    one.drop_pool(pool)
    with pytest.raises(ValueError, match="no such pool"):
        one.counts(pool)
    one.close()
    with pytest.raises(ValueError, match="closed"):
        one.news()
