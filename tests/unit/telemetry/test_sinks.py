"""Lines reach syslog, the journal and memory as they should; whoever does not take them costs
lines, never time; and no secret leaves in them."""

from __future__ import annotations

import contextvars
import logging
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from pgherd.telemetry import logs, trace
from pgherd.telemetry.hiding import HIDDEN, hide
from pgherd.telemetry.ring import Ring


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Other tests find logging as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    logs.set_level("info")
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[socket.socket]:
    """A local socket as syslog or the journal would have it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(str(tmp_path / "log.sock"))
        opened.settimeout(10)
        yield opened


def test_syslog_gets_one_message_a_line(receiver: socket.socket) -> None:
    """With severity and process; a traceback stays one message."""
    out = logs.set_up(syslog=str(receiver.getsockname()), node="n1")
    logs.get("act").warning("disk.fills", mount="data")
    try:
        raise ValueError("why")
    except ValueError:
        logs.get("act").exception("it.failed")
    first, second = receiver.recv(9000).decode(), receiver.recv(9000).decode()
    assert first.startswith(f"<28>pgherd[{os.getpid()}]: ")
    assert "disk.fills" in first
    assert second.startswith("<27>pgherd")
    assert "#012    ValueError: why" in second
    assert "\n" not in second
    assert out.close()


def test_the_journal_gets_fields(receiver: socket.socket) -> None:
    out = logs.set_up(journal=str(receiver.getsockname()), form="json")
    logs.get("act").info("a.b", text="two\nlines")
    message = receiver.recv(9000)
    head, _, rest = message.partition(b"MESSAGE\n")
    assert head.decode().splitlines() == [
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=pgherd",
        f"SYSLOG_PID={os.getpid()}",
    ]
    [length] = struct.unpack("<Q", rest[:8])
    assert b'"event":"a.b"' in rest[8 : 8 + length]
    assert rest[8 + length :] == b"\n"
    assert out.close()


def test_syslog_that_is_started_anew_is_found_again(tmp_path: Path) -> None:
    place = tmp_path / "log.sock"
    out = logs.set_up(syslog=str(place))
    for text in ("first", "second"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
            opened.bind(str(place))
            opened.settimeout(10)
            logs.get("act").info(text)
            assert text in opened.recv(9000).decode()
        place.unlink()
    logs.get("act").info("lost")
    assert out.close()
    assert out.dropped == 1


def test_the_newest_lines_stay_in_memory() -> None:
    ring = Ring(lines_max=3, bytes_max=100)
    for number in range(5):
        ring.add(b"line %d" % number)
    assert ring.last == 5
    assert ring.since(0) == [b"line 2", b"line 3", b"line 4"]
    assert ring.since(4) == [b"line 4"]
    assert ring.since(5) == ring.since(9) == []
    ring.add(b"x" * 90)
    assert ring.since(0) == [b"line 4", b"x" * 90]


def test_lines_of_a_request_carry_its_trace(tmp_path: Path) -> None:
    out = logs.set_up(form="json", file=tmp_path / "log")

    def request() -> None:
        trace.enter(trace.begin("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"))
        logs.get("api").info("a.b")

    contextvars.copy_context().run(request)
    assert out.close()
    assert '"trace":"4bf92f3577b34da6a3ce929d0e0e4736"' in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    "header",
    [
        "",
        "00-0-0-00",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-4bf92f3577b34da6a3ce929d0e0e4736-{'0' * 16}-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
    ],
)
def test_a_header_that_cannot_be_read_begins_a_new_trace(header: str) -> None:
    found = trace.begin(header)
    assert len(found.id) == 32
    assert not found.parent
    again = trace.begin(found.header)
    assert (again.id, again.parent) == (found.id, found.span)


def test_a_later_version_of_the_header_is_read_as_far_as_it_is_known() -> None:
    found = trace.begin("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-ever")
    assert found.id == "4bf92f3577b34da6a3ce929d0e0e4736"


SECRETS = {
    "LOG:  statement: ALTER ROLE app PASSWORD 'hunter2x'": "hunter2x",
    "ALTER ROLE app WITH ENCRYPTED PASSWORD\n\t'it''s secret'": "secret'",
    "create user a password $x$hunter2x$x$;": "hunter2x",
    'connection to server failed: host=h user=u password="a b\\" c" port=1': "a b",
    "postgresql://app:hunter2x@db/one": "hunter2x",
    "verifier SCRAM-SHA-256$4096:AAAA$BBBB:CCCC=": "BBBB",
    "Authorization: Bearer pgh_abcdef.123": "pgh_abcdef",
    "PGPASSWORD=hunter2x psql": "hunter2x",
    "md5d41d8cd98f00b204e9800998ecf8427e": "d41d8cd98f00",
    "-----BEGIN PRIVATE KEY-----\nMIIabc\n-----END PRIVATE KEY-----": "MIIabc",
    "DETAIL:  parameters: $1 = 'of-the-file'": "of-the-file",
}


@pytest.mark.parametrize("line", SECRETS, ids=range(len(SECRETS)))
def test_secrets_are_hidden(line: str) -> None:
    shown = "\n".join(hide(line.split("\n"), known=["of-the-file", ""]))
    assert SECRETS[line] not in shown
    assert HIDDEN in shown


def test_what_is_no_secret_is_shown() -> None:
    lines = ("n1 is the primary", "user=app host=10.0.0.1", "http://10.0.0.1:8008/x", "a@b")
    assert hide(lines) == lines
    assert hide(()) == ()


TALKERS = {
    "supervisor": "from pgherd.daemon.supervise import tell\nfor _ in range(5000): tell('x' * 90)",
    "proxy": "from pgherd.relay.journal import say\nfor _ in range(5000): say('x', y='z' * 90)",
    "agent": (
        "from pgherd.telemetry import logs\nout = logs.set_up()\n"
        "for _ in range(9000): logs.get('x').info('y', z='z' * 90)\n"
        "assert out.dropped > 1000\nimport os; os.write(1, b'done'); os._exit(0)"
    ),
}


@pytest.mark.fault(89)
@pytest.mark.parametrize("talker", TALKERS)
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_log_that_nobody_reads_stops_no_process(talker: str, kind: str) -> None:
    """A full pipe, or a full socket as systemd's is, costs lines: supervisor, proxy and agent go
    on. Each writes far more than either holds, and ends."""
    if kind == "pipe":
        ours, theirs = os.pipe()
    else:
        one, other = socket.socketpair()
        ours, theirs = one.detach(), other.detach()
    code = f"{TALKERS[talker]}\nimport os; os.write(1, b'done')"
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=theirs,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
        os.close(theirs)
    assert done.returncode == 0
    assert done.stdout.startswith(b"done")
