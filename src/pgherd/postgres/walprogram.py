"""The small program that PostgreSQL runs for each file of WAL: `wal-push` and `wal-fetch`.

Theory of operation. It asks its node's agent through a Unix socket whether the file may go (or may
come), and how; it copies by itself, and tells the agent what became of it. Without an agent nothing
is archived and nothing fetched: only the agent knows whether what is in the file is sure to be on
every later primary, and whether this node is sealed (docs/adr/0054). What it leaves under a file's
name is whole and durable: it is written beside it, flushed, and linked into place, which never
replaces anything. The same name with the same bytes is success, with other bytes an error
(PostgreSQL's documentation, 26.3.1).

It is started for every 16 MB of WAL, so it is run by a bare interpreter (-I -S) and imports nothing
but small modules of the standard library, nothing of pgherd.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import sys
import time

SOCKET = ".wal"
"""How the name of the agent's socket ends, in the directory of PostgreSQL's own."""
SOCKET_VARIABLE = "PGHERD_WAL_SOCKET"
ASK_AGAIN_S = 0.1
ANSWER_S = 10.0
CHUNK = 1 << 20
LINE_MAX = 16 << 10
SEGMENT_LEAST, SEGMENT_MOST = 1 << 20, 1 << 30
HEX = frozenset("0123456789ABCDEF")
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
FAILED, HALT = 1, 255
"""Above 128 the archiver itself ends, so that a server that stops need not wait for its retries."""


class Failed(Exception):
    """It did not work this time; the text says why."""


class Halt(Exception):
    """Nothing is to be archived now: the server stops, or others are about to elect."""


class NotThere(Exception):
    """The archive has no such file, which is how every recovery ends."""


class Agent:
    """The connection to this node's agent: one question and one answer per line, by tabs.

    An agent that closes it wants that a fetch ends: its node is being sealed.
    """

    def __init__(self, path: str, until: float) -> None:
        self._until = until
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(ANSWER_S)
        try:
            self._socket.connect(path)
        except OSError as error:
            raise Failed(f"the agent of this node does not answer: {error.strerror}") from error

    def ask(self, *words: str) -> list[str]:
        """One line there, one line back."""
        try:
            self._socket.sendall(line(words))
            answer = b""
            while not answer.endswith(b"\n"):
                part = self._socket.recv(LINE_MAX)
                if not part or len(answer) > LINE_MAX:
                    raise Failed("the agent of this node ended")
                answer += part
        except OSError as error:
            raise Failed(f"the agent of this node does not answer: {error}") from error
        return answer.decode().rstrip("\n").split("\t")

    def told(self, *words: str) -> str:
        """What it says to the outcome; "" where it has ended meanwhile."""
        try:
            return self.ask(*words)[0]
        except Failed:
            return ""

    def fileno(self) -> int:
        return self._socket.fileno()

    def is_gone(self) -> bool:
        waiting = select.poll()
        waiting.register(self, select.POLLIN)
        return bool(waiting.poll(0))

    def permission(self, verb: str, name: str) -> Order | None:
        """Wait until the agent says how; None where there is nothing to do."""
        while True:
            word, *rest = self.ask(verb, name)
            if word == "go":
                return Order(rest, self if verb == "fetch" else None)
            reason = rest[0] if rest else word
            if word == "skip":
                say(f"{name} is left out: {reason}")
                return None
            if word == "halt":
                raise Halt(reason)
            if word == "none":
                raise NotThere
            if time.monotonic() + ASK_AGAIN_S > self._until:
                raise Failed(reason)
            time.sleep(ASK_AGAIN_S)


class Order:
    """How a file goes or comes, as the agent says.

    kind: directory or command · place: the directory, or the command with its %p and %f · tries ·
    timeout_s: of one try · system_id: whose WAL it has to be · mark: of the file that is written
    beside its place, different on each node · begins: where the timeline of a history file has to
    begin that is fetched, "" where that is not known · agent: who may call it off.
    """

    def __init__(self, words: list[str], agent: Agent | None = None) -> None:
        self.agent = agent
        self.kind, self.place, tries, timeout, self.system_id, self.mark, self.begins = words[:7]
        self.tries, self.timeout_s = int(tries), float(timeout)


def line(words: tuple[str, ...]) -> bytes:
    return "\t".join(word.replace("\t", " ").replace("\n", " ") for word in words).encode() + b"\n"


def is_segment(name: str) -> bool:
    """Whether a file is a whole segment, by its name."""
    return len(name) == 24 and set(name) <= HEX


def check_name(name: str) -> None:
    """Only what PostgreSQL puts into an archive; no name leads out of a directory."""
    stem, _, kind = name.partition(".")
    known = (
        (len(stem) == 24 and kind in ("", "partial"))
        or (len(stem) == 8 and kind == "history")
        or (len(stem) == 24 and len(kind) == 15 and kind.endswith(".backup"))
    )
    if not known or not set(stem) <= HEX:
        raise Failed(f"{name!r} is no file of WAL")


def check_segment(descriptor: int, name: str, system_id: str) -> None:
    """That a whole segment is what its name says, and of this cluster (xlog_internal.h)."""
    head = os.pread(descriptor, 40, 0)
    size = os.fstat(descriptor).st_size
    told = int.from_bytes(head[32:36], sys.byteorder)
    if len(head) < 40 or told != size or not SEGMENT_LEAST <= size <= SEGMENT_MOST:
        raise Failed(f"{name} is not whole: it has {size} bytes, its head says {told}")
    begins = int.from_bytes(head[8:16], sys.byteorder)
    wanted = int(name[8:16], 16) * (1 << 32) + int(name[16:24], 16) * size
    if begins != wanted:
        raise Failed(f"{name} holds WAL from {begins:X} on, not from {wanted:X}")
    found = str(int.from_bytes(head[24:32], sys.byteorder))
    if system_id and found != system_id:
        raise Failed(f"{name} is of another cluster, with system identifier {found}")


def check_history(descriptor: int, name: str, begins: str) -> None:
    """That a timeline begins where the ledger has it: two may have been opened under one number."""
    text = os.pread(descriptor, CHUNK, 0).decode(errors="replace")
    lines = [words for line in text.splitlines() if (words := line.split("#")[0].split())]
    found = lines[-1][1] if lines and len(lines[-1]) > 1 else "nowhere"
    if found != begins:
        raise Failed(f"{name} begins at {found}, this cluster's timeline at {begins}")


def push(path: str, name: str, order: Order) -> None:
    """Bring one file into the archive."""
    check_name(name)
    source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if is_segment(name):
            check_segment(source, name, order.system_id)
        KINDS[order.kind][0](source, path, name, order)
    finally:
        os.close(source)


def fetch(name: str, path: str, order: Order) -> None:
    """Bring one file out of the archive, to a path that PostgreSQL names."""
    check_name(name)
    try:
        KINDS[order.kind][1](name, path, order)
        brought = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if is_segment(name):
                check_segment(brought, name, order.system_id)
            elif order.begins:
                check_history(brought, name, order.begins)
        finally:
            os.close(brought)
    except BaseException:
        remove(path)
        raise


# --- a directory that all nodes see ---------------------------------------------------------------


def push_to_directory(source: int, path: str, name: str, order: Order) -> None:
    """Write beside the place, flush, link into place, flush the directory."""
    directory = open_directory(order.place)
    side = f".{name}.part-{order.mark}"
    try:
        if is_there(source, name, order.place, directory):
            return
        written = open_side(side, directory)
        try:
            os.ftruncate(written, 0)
            copy(source, written)
            os.fsync(written)
            put(side, name, directory)
        finally:
            os.close(written)
            remove(side, directory)
        is_there(source, name, order.place, directory)
    finally:
        os.close(directory)


def is_there(source: int, name: str, place: str, directory: int) -> bool:
    """Whether the archive has this file with these bytes, durably. Other bytes are an error."""
    try:
        found = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return False
    try:
        if not is_same(source, found):
            size = os.fstat(found).st_size
            raise Failed(
                f"{place}/{name} is there with other content ({size} bytes): it is of another"
                " cluster, or of a branch that was given up; move it away if nobody needs it"
            )
        os.fsync(found)
    finally:
        os.close(found)
    os.fsync(directory)
    return True


def is_same(one: int, other: int) -> bool:
    """Whether two files have the same bytes."""
    if os.fstat(one).st_size != os.fstat(other).st_size:
        return False
    at = 0
    while part := os.pread(one, CHUNK, at):
        if part != os.pread(other, len(part), at):
            return False
        at += len(part)
    return True


def open_side(side: str, directory: int) -> int:
    """The file to write, ours alone; what an earlier run left of it is used again."""
    while True:
        flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        written = os.open(side, flags, 0o600, dir_fd=directory)
        try:
            fcntl.flock(written, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(written)
            raise Failed("an earlier run still writes it") from None
        except OSError:
            pass  # a file system without locks; who wrote it before has ended or writes the same
        if os.fstat(written).st_nlink:
            return written
        os.close(written)  # it went into place, or away, between the two


def put(side: str, name: str, directory: int) -> None:
    """Give a written file its name; a name that is there already is for the caller to judge."""
    try:
        os.link(side, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        os.rename(side, name, src_dir_fd=directory, dst_dir_fd=directory)


def fetch_from_directory(name: str, path: str, order: Order) -> None:
    """Copy one file out."""
    directory = open_directory(order.place)
    try:
        source = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        raise NotThere from None
    finally:
        os.close(directory)
    try:
        if is_segment(name):
            check_segment(source, name, order.system_id)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        written = os.open(path, flags, 0o600)
        try:
            copy(source, written, order.agent)
        finally:
            os.close(written)
    finally:
        os.close(source)


def open_directory(place: str) -> int:
    """The archive's directory. It is not made: a disk that is not mounted is no archive."""
    try:
        return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Failed(f"cannot use {place}: {error.strerror}") from error


def copy(source: int, written: int, agent: Agent | None = None) -> None:
    """All of one file to the end of another, unless the agent calls it off."""
    at = 0
    while part := os.pread(source, CHUNK, at):
        if agent is not None and agent.is_gone():
            raise Failed("the agent has called it off")
        at += len(part)
        while part:
            part = part[os.write(written, part) :]


def remove(path: str, directory: int | None = None) -> None:
    try:
        os.unlink(path, dir_fd=directory)
    except FileNotFoundError:
        pass


# --- a command of the operator's ------------------------------------------------------------------


def push_by_command(source: int, path: str, name: str, order: Order) -> None:
    """Run the operator's command; it answers for what is in its archive."""
    code = run(fill(order.place, path=path, name=name), order)
    if code != 0:
        raise Failed(f"the command ended with {code}")


def fetch_by_command(name: str, path: str, order: Order) -> None:
    """Run the operator's command; one that fails, or leaves nothing, has no such file."""
    code = run(fill(order.place, path=path, name=name), order)
    if code != 0 or not os.path.exists(path):
        raise NotThere


def fill(command: str, *, path: str, name: str) -> str:
    """%p is the path, %f the name, %% a percent sign, as in PostgreSQL's own commands."""
    known = {"p": path, "f": name, "%": "%"}
    parts = command.split("%")
    filled, rest = [parts[0]], parts[1:]
    while rest:
        part = rest.pop(0)
        if not part and rest:
            filled += ["%", rest.pop(0)]
        else:
            filled.append(known[part[0]] + part[1:] if part[:1] in known else "%" + part)
    return "".join(filled)


def run(command: str, order: Order) -> int:
    """Run a shell command in a group of its own; its exit code.

    Raises Failed when its time is up, or the agent calls it off.
    """
    said_to = [(os.POSIX_SPAWN_DUP2, 2, 1)]
    shell = ["sh", "-c", command]
    pid = os.posix_spawn("/bin/sh", shell, os.environ, file_actions=said_to, setpgroup=0)
    end = os.pidfd_open(pid)
    try:
        waiting = select.poll()
        waiting.register(end, select.POLLIN)
        if order.agent is not None:
            waiting.register(order.agent, select.POLLIN)
        found = dict(waiting.poll(order.timeout_s * 1000))
        if not found:
            raise Failed(f"the command did not end within {order.timeout_s:g} s")
        if end not in found:
            raise Failed("the agent has called it off")
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except BaseException:
        os.killpg(pid, 9)
        os.waitpid(pid, 0)
        raise
    finally:
        os.close(end)


KINDS = {
    "directory": (push_to_directory, fetch_from_directory),
    "command": (push_by_command, fetch_by_command),
}
"""How a file goes in and comes out, by the kind of archive. Another kind is another line here."""


# --- the program ----------------------------------------------------------------------------------


def push_one(socket_path: str, path: str, name: str) -> int:
    """`wal-push`: 0 once the archive has it, or the agent says that it is not wanted there."""
    try:
        agent = Agent(socket_path, time.monotonic() + ANSWER_S)
        order = agent.permission("push", name)
        if order is None:
            return 0
    except Halt as halt:
        say(f"{name} stays: {halt}")
        return HALT
    except Failed as failed:
        say(f"{name} is not archived yet: {failed}")
        return FAILED
    why = tried(order, lambda: push(path, name, order))
    word = agent.told("failed" if why else "done", name, why)
    if why:
        say(f"{name} is not archived: {why}")
    return 0 if not why or word == "drop" else FAILED


def fetch_one(socket_path: str, name: str, path: str) -> int:
    """`wal-fetch`: 0 once the file is there."""
    try:
        agent = Agent(socket_path, time.monotonic())
        order = agent.permission("fetch", name)
        if order is None:
            return FAILED
        order.tries = 1  # PostgreSQL asks again
        why = tried(order, lambda: fetch(name, path, order))
    except (NotThere, Halt):
        return FAILED
    except Failed as failed:
        why = str(failed)
    else:
        word = agent.told("unfetched" if why else "fetched", name, why)
        if not why and word != "ok":
            remove(path)
            return FAILED
    if why:
        say(f"{name} is not fetched: {why}")
    return FAILED if why else 0


def tried(order: Order, job: object) -> str:
    """Do it, as often as is wanted; why it failed in the end, "" when it did not."""
    assert callable(job)
    for left in reversed(range(order.tries)):
        try:
            job()
            return ""
        except (Failed, OSError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else str(error)
            if left:
                time.sleep(min(1.0, order.timeout_s))
    return why


def say(text: str) -> None:
    """One line for the server's log."""
    sys.stderr.write(f"pgherd: {text}\n")


def own_socket() -> str:
    """The agent's socket: as the environment says, else where pgherd places it by default."""
    if named := os.environ.get(SOCKET_VARIABLE):
        return named
    folder = os.path.join(os.pardir, "run")
    names = os.listdir(folder) if os.path.isdir(folder) else []
    found = [name for name in names if name.startswith("pgherd-") and name.endswith(SOCKET)]
    return os.path.join(folder, found[0] if found else SOCKET)


def main(argv: list[str]) -> int:
    """As PostgreSQL runs it, or as a person does from within the data directory (`wal-`)."""
    match argv:
        case ["push", place, path, name]:
            return push_one(place, path, name)
        case ["fetch", place, name, path]:
            return fetch_one(place, name, path)
        case ["wal-push", path]:
            return push_one(own_socket(), path, os.path.basename(path))
        case ["wal-fetch", name, path]:
            return fetch_one(own_socket(), name, path)
    say(
        f"wal-push PATH or wal-fetch NAME PATH, in the data directory or with {SOCKET_VARIABLE} set"
    )
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
