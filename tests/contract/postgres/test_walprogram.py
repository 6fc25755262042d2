"""The program that PostgreSQL runs for each file of WAL, as a process, on real files.

An agent of the test's own answers on a real socket. What the archive has under a file's name is
whole, whatever happens to who writes it, and nothing there is ever replaced.
"""

from __future__ import annotations

import filecmp
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgherd.postgres import walprogram

PROGRAM = [sys.executable, "-I", "-S", walprogram.__file__]
SYSTEM = 7_000_000_000_000_000_001
MB = 1 << 20
NAME = "000000020000000000000005"
HISTORY = "00000002.history"
LIMIT_S = 30.0


class TestAgent:
    """Answers by a script: what `push` and `fetch` get, one after the other, the last for ever."""

    __test__ = False

    def __init__(self, path: Path, kind: str, place: str) -> None:
        self.path, self.kind, self.place = path, kind, place
        self.answers: list[str] = ["go"]
        self.to_failed, self.to_fetched = "ok", "ok"
        self.begins, self.timeout_s, self.closes = "", 30.0, False
        self.tries = 1
        self.heard: list[list[str]] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                called, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(called,), daemon=True).start()

    def _serve(self, called: socket.socket) -> None:
        with called, called.makefile("rw") as lines:
            while line := lines.readline():
                words = line.rstrip("\n").split("\t")
                self.heard.append(words)
                lines.write("\t".join(self._answer(words)) + "\n")
                lines.flush()
                if self.closes:
                    return

    def _answer(self, words: list[str]) -> list[str]:
        if words[0] in ("push", "fetch"):
            word = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if word != "go":
                return [word, "for the test"]
            order = [self.kind, self.place, str(self.tries), str(self.timeout_s), str(SYSTEM), "n1"]
            return ["go", *order, self.begins]
        said = {"failed": self.to_failed, "fetched": self.to_fetched}
        return [said.get(words[0], "ok")]

    def told(self, word: str) -> list[str]:
        """What it was told with this word."""
        return [words[2] for words in self.heard if words[0] == word]

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    made = tmp_path / "archive"
    made.mkdir()
    return made


@pytest.fixture
def agent(tmp_path: Path, archive: Path) -> Iterator[TestAgent]:
    made = TestAgent(tmp_path / "s", "directory", str(archive))
    yield made
    made.close()


def segment(folder: Path, name: str = NAME, *, fill: bytes = b"a", size: int = MB) -> Path:
    """A segment as PostgreSQL heads it: where it begins, whose it is, how large."""
    begins = int(name[8:16], 16) * (1 << 32) + int(name[16:24], 16) * size
    head = b"\x10\xd1\x02\x00\x02\x00\x00\x00" + begins.to_bytes(8, sys.byteorder) + bytes(8)
    head += SYSTEM.to_bytes(8, sys.byteorder) + size.to_bytes(4, sys.byteorder) + bytes(4)
    path = folder / name
    with path.open("wb") as file:
        file.write(head)
        file.write(fill * 100)
        file.truncate(size)
    return path


def run(*words: object, **more: object) -> subprocess.CompletedProcess[str]:
    argv = [*PROGRAM, *(str(word) for word in words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT_S, **more)  # type: ignore[call-overload,no-any-return] # **


def push(agent: TestAgent, path: Path, **more: object) -> subprocess.CompletedProcess[str]:
    return run("push", agent.path, path, path.name, **more)


def names(archive: Path) -> list[str]:
    return sorted(os.listdir(archive))


# --- into a directory ---


def test_a_new_file_is_there_as_a_whole(agent: TestAgent, archive: Path, tmp_path: Path) -> None:
    """Segments and history files; nothing else is left in the directory, the agent hears of it."""
    path = segment(tmp_path)
    history = tmp_path / HISTORY
    history.write_text("1\t0/4000000\tno recovery target specified\n")
    assert push(agent, path).returncode == 0
    assert push(agent, history).returncode == 0
    assert names(archive) == [HISTORY, NAME]
    assert (archive / NAME).read_bytes() == path.read_bytes()
    assert [words[1] for words in agent.heard if words[0] == "done"] == [NAME, HISTORY]


def test_the_same_again_is_success_and_another_one_never(
    agent: TestAgent, archive: Path, tmp_path: Path
) -> None:
    """PostgreSQL's documentation, 26.3.1: identical is well, different is refused and kept."""
    path = segment(tmp_path)
    assert push(agent, path).returncode == 0
    there = (archive / NAME).stat()
    assert push(agent, path).returncode == 0
    assert (archive / NAME).stat().st_ino == there.st_ino
    kept = path.read_bytes()
    segment(tmp_path, fill=b"b")
    refused = push(agent, path)
    assert refused.returncode == 1
    assert "is there with other content" in refused.stderr
    assert "is there with other content" in agent.told("failed")[0]
    assert (archive / NAME).read_bytes() == kept
    assert names(archive) == [NAME]


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: os.truncate(path, 4096), "is not whole"),
        (lambda path: os.truncate(path, 0), "is not whole"),
        (lambda path: patch(path, 8, b"\xff" * 8), "holds WAL from"),
        (lambda path: patch(path, 24, b"\x01" * 8), "is of another cluster"),
    ],
)
def test_what_is_no_segment_of_this_cluster_stays_out(
    agent: TestAgent, archive: Path, tmp_path: Path, spoil: object, why: str
) -> None:
    """Torn, of another place, of another cluster."""
    path = segment(tmp_path)
    assert callable(spoil)
    spoil(path)
    assert push(agent, path).returncode == 1
    assert why in agent.told("failed")[0]
    assert names(archive) == []


def patch(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def test_names_that_lead_elsewhere_are_none(agent: TestAgent, tmp_path: Path) -> None:
    path = segment(tmp_path)
    for name in (
        "../" + NAME,
        "passwd",
        NAME.lower() + "x",
        NAME + ".partialx",
        "0000000g.history",
    ):
        assert run("push", agent.path, path, name).returncode == 1, name
    failed = agent.told("failed")
    assert len(failed) == 5
    assert all("is no file of WAL" in why for why in failed)


def test_an_archive_that_is_not_mounted_is_not_made(agent: TestAgent, tmp_path: Path) -> None:
    agent.place = str(tmp_path / "not there")
    assert push(agent, segment(tmp_path)).returncode == 1
    assert "No such file or directory" in agent.told("failed")[0]
    assert not Path(agent.place).exists()


def test_a_write_that_fails_in_the_middle_leaves_nothing(
    agent: TestAgent, archive: Path, tmp_path: Path
) -> None:
    """The kernel takes only a part (as on a full disk); with room again it is whole."""
    path = segment(tmp_path)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (MB // 2, MB // 2))

    assert push(agent, path, preexec_fn=limit).returncode == 1
    assert "File too large" in agent.told("failed")[0]
    assert names(archive) == []
    assert push(agent, path).returncode == 0
    assert (archive / NAME).read_bytes() == path.read_bytes()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk_is_said_and_nothing_is_half_there(
    agent: TestAgent, archive: Path, tmp_path: Path
) -> None:
    path = segment(tmp_path)
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "none", str(archive)]
    if subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no right to mount")
    try:
        assert push(agent, path).returncode == 1
        assert "No space left on device" in agent.told("failed")[0]
        assert names(archive) == []
        subprocess.run(["mount", "-o", "remount,size=4m", str(archive)], check=True)
        assert push(agent, path).returncode == 0
        assert (archive / NAME).read_bytes() == path.read_bytes()
    finally:
        subprocess.run(["umount", str(archive)], check=True)


def test_who_is_killed_in_the_middle_leaves_no_half_file(
    agent: TestAgent, archive: Path, tmp_path: Path
) -> None:
    """SIGKILL while it writes: the name is not there; the next run uses what was left."""
    size, interrupted = 64 * MB, 0
    for number in range(1, 21):
        path = segment(tmp_path, f"0000000200000000000000{number:02X}", size=size)
        with path.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(MB) * 63)
        argv = [*PROGRAM, "push", str(agent.path), str(path), path.name]
        child = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
        side = archive / f".{path.name}.part-n1"
        until = time.monotonic() + LIMIT_S
        while not side.exists() and child.poll() is None and time.monotonic() < until:
            pass
        child.send_signal(signal.SIGKILL)
        child.wait()
        interrupted += not (archive / path.name).exists()
        assert push(agent, path).returncode == 0
        assert names(archive) == [path.name]
        assert filecmp.cmp(path, archive / path.name, shallow=False)
        (archive / path.name).unlink()
        path.unlink()
        if interrupted:
            break
    assert interrupted, "none of the programs was caught while it wrote"


def test_two_at_once_end_with_one_whole_file(
    agent: TestAgent, archive: Path, tmp_path: Path
) -> None:
    """As when a server was killed and its archiver's last program still runs."""
    path = segment(tmp_path, size=16 * MB)
    argv = [*PROGRAM, "push", str(agent.path), str(path), path.name]
    both = [subprocess.Popen(argv, stderr=subprocess.DEVNULL) for _ in range(4)]
    codes = [child.wait(LIMIT_S) for child in both]
    assert 0 in codes
    assert set(codes) <= {0, 1}
    assert push(agent, path).returncode == 0
    assert (archive / NAME).read_bytes() == path.read_bytes()
    assert names(archive) == [NAME]


# --- what the agent says ---


def test_it_waits_as_long_as_the_agent_wants(
    agent: TestAgent, archive: Path, tmp_path: Path
) -> None:
    agent.answers = ["wait", "wait", "go"]
    assert push(agent, segment(tmp_path)).returncode == 0
    assert [words[0] for words in agent.heard] == ["push"] * 3 + ["done"]
    assert names(archive) == [NAME]


@pytest.mark.parametrize(("word", "code"), [("halt", 255), ("skip", 0)])
def test_what_must_not_go_does_not(
    agent: TestAgent, archive: Path, tmp_path: Path, word: str, code: int
) -> None:
    """halt ends the archiver as well (above 128), which a server that stops need not wait for."""
    agent.answers = [word]
    ended = push(agent, segment(tmp_path))
    assert ended.returncode == code
    assert "for the test" in ended.stderr
    assert names(archive) == []


def test_without_an_agent_nothing_goes_and_nothing_comes(tmp_path: Path) -> None:
    path, to = segment(tmp_path), tmp_path / "to"
    assert run("push", tmp_path / "nobody", path, NAME).returncode == 1
    assert run("fetch", tmp_path / "nobody", NAME, to).returncode == 1
    assert not to.exists()


def test_a_file_that_is_given_up_counts_as_done(agent: TestAgent, tmp_path: Path) -> None:
    """Too much waits, and its operator rather has a gap: PostgreSQL may remove the file."""
    agent.place, agent.to_failed = str(tmp_path / "not there"), "drop"
    assert push(agent, segment(tmp_path)).returncode == 0


# --- out of a directory ---


def fetch(agent: TestAgent, to: Path, name: str = NAME) -> subprocess.CompletedProcess[str]:
    return run("fetch", agent.path, name, to)


def test_what_is_there_comes(agent: TestAgent, archive: Path, tmp_path: Path) -> None:
    path, to = segment(archive), tmp_path / "RECOVERYXLOG"
    assert fetch(agent, to).returncode == 0
    assert to.read_bytes() == path.read_bytes()
    assert fetch(agent, tmp_path / "other", "000000020000000000000006").returncode == 1
    assert [words[0] for words in agent.heard] == ["fetch", "fetched", "fetch"]


def test_torn_and_foreign_files_do_not_come(
    agent: TestAgent, archive: Path, tmp_path: Path
) -> None:
    """Where somebody else's tool left them. Never with 128 or more, which would end recovery."""
    to = tmp_path / "RECOVERYXLOG"
    for spoil in (
        lambda path: os.truncate(path, MB - 1),
        lambda path: patch(path, 24, b"\x01" * 8),
    ):
        spoil(segment(archive))
        ended = fetch(agent, to)
        assert (ended.returncode, to.exists()) == (1, False), ended.stderr
    assert len(agent.told("unfetched")) == 2


def test_a_timeline_of_the_same_number_does_not_come(
    agent: TestAgent, archive: Path, tmp_path: Path
) -> None:
    """Two that were promoted alone may choose the same one; the ledger knows where ours begins."""
    to = tmp_path / "RECOVERYHISTORY"
    (archive / HISTORY).write_text("1\t0/4000000\tno recovery target specified\n")
    agent.begins = "0/5000000"
    assert fetch(agent, to, HISTORY).returncode == 1
    assert not to.exists()
    agent.begins = "0/4000000"
    assert fetch(agent, to, HISTORY).returncode == 0


def test_a_seal_calls_it_off(agent: TestAgent, archive: Path, tmp_path: Path) -> None:
    """The agent closes the connection, or says no at the end: PostgreSQL gets nothing."""
    segment(archive, size=16 * MB)
    to = tmp_path / "RECOVERYXLOG"
    agent.to_fetched = "no"
    assert fetch(agent, to).returncode == 1
    assert not to.exists()
    agent.to_fetched, agent.closes = "ok", True
    assert fetch(agent, to).returncode == 1
    assert not to.exists()


# --- an operator's commands ---


def test_commands_get_path_and_name(agent: TestAgent, archive: Path, tmp_path: Path) -> None:
    path, to = segment(tmp_path), tmp_path / "RECOVERYXLOG"
    agent.kind, agent.place = "command", f"cp %p {archive}/%f; echo '100%%' > {archive}/x"
    assert push(agent, path).returncode == 0
    assert names(archive) == [NAME, "x"]
    assert (archive / "x").read_text() == "100%\n"
    agent.place = f"cp {archive}/%f %p"
    assert fetch(agent, to).returncode == 0
    assert to.read_bytes() == path.read_bytes()
    assert fetch(agent, tmp_path / "other", "000000020000000000000006").returncode == 1


def test_a_command_that_fails_or_hangs_is_told(agent: TestAgent, tmp_path: Path) -> None:
    """The whole group of one that hangs is ended."""
    path, started = segment(tmp_path), tmp_path / "pid"
    agent.kind, agent.place = "command", "exit 7"
    assert push(agent, path).returncode == 1
    agent.place, agent.timeout_s = f"sleep 300 & echo $! > {started}; wait; : %p", 0.5
    assert push(agent, path).returncode == 1
    assert agent.told("failed") == [
        "the command ended with 7",
        "the command did not end within 0.5 s",
    ]
    pid = int(started.read_text())
    until = time.monotonic() + LIMIT_S
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
            break
        time.sleep(0.01)
    else:
        assert not Path(f"/proc/{pid}").exists()


def test_a_command_is_tried_as_often_as_is_wanted(
    agent: TestAgent, archive: Path, tmp_path: Path
) -> None:
    """A failure is told after the last try only; a success ends them."""
    path, begun = segment(tmp_path), tmp_path / "begun"
    agent.kind = "command"
    agent.place = f"echo x >> {begun}; [ $(wc -l < {begun}) -ge 3 ] && cp %p {archive}/%f"
    agent.tries = 2
    assert push(agent, path).returncode == 1
    assert begun.read_text() == "x\nx\n"
    assert len(agent.told("failed")) == 1
    assert push(agent, path).returncode == 0
    assert begun.read_text() == "x\nx\nx\n"
    assert names(archive) == [NAME]


def test_it_is_there_by_hand_too(agent: TestAgent, archive: Path, tmp_path: Path) -> None:
    """As `pgherd wal-push` and `wal-fetch`, by the same rules; halt is said by 255 here too."""
    path, to = segment(tmp_path), tmp_path / "to"
    env = {**os.environ, walprogram.SOCKET_VARIABLE: str(agent.path)}

    def by_hand(*words: object) -> int:
        argv = [sys.executable, "-m", "pgherd.cli.main", *map(str, words)]
        return subprocess.run(argv, env=env, timeout=LIMIT_S, stderr=subprocess.DEVNULL).returncode

    assert by_hand("wal-push", path) == 0
    assert names(archive) == [NAME]
    assert by_hand("wal-fetch", NAME, to) == 0
    assert to.read_bytes() == path.read_bytes()
    assert by_hand("wal-fetch", "000000020000000000000006", to) == 1
    assert by_hand("wal-push") == 2
