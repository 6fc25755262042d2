"""Plays scenario files on simulated servers: a story as comments, commands, and what then happened.

Owns the little language and its printing; the servers, the checker and their disks are those of
`pgherd.sim.raft`. No operator acts and no client of the simulator calls; times are not printed.
A block is a command line, a line `----`, and its output up to an empty line.

    group SIZE [option=value ...]      servers 1..SIZE; options are those of group.Options
    campaign ID | transfer ID TO | run MS
    write ID CLIENT SEQ VALUE | renew ID SEQ | read ID
    crash ID | start ID | pause ID | resume ID
    slow ID MS | io-error ID | full ID | flip ID | wall-clock SECONDS
    cut A B | isolate ID | heal
    state
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pgherd.sim.clock import MS, SECOND
from pgherd.sim.raft.checker import Violation
from pgherd.sim.raft.group import Group, Options
from pgherd.sim.raft.machine import APPEND, RENEW, Command, Outcome
from pgherd.sim.raft.run import described
from pgherd.sim.raft.server import Server

MARK = "----"
SEED = 1


class Script:
    """One file's group, and the lines that the current command has printed."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.group = Group(SEED, Options(clients=0, spare=0))
        self.asked = 0

    def run_command(self, line: str) -> list[str]:
        """Do one command and return what it printed."""
        self.lines = []
        name, *words = line.split()
        try:
            COMMANDS[name](self, words)
        except Violation as why:
            self.lines.append(f"BROKEN {why}")
        except (AssertionError, LookupError) as why:
            self.lines.append(f"BROKEN A1: {described(why)}")
        return self.lines or ["ok"]

    def server(self, word: str) -> Server:
        return self.group.slots[int(word)]

    def create(self, words: list[str]) -> None:
        size, *rest = words
        numbers = {key: int(value) for key, value in (word.split("=") for word in rest)}
        options = Options(size=int(size), clients=0, **{"spare": 0, **numbers})  # type: ignore[arg-type]
        self.group = Group(SEED, options)
        self.group.begin()
        self.group.note_line = self._note

    def run(self, words: list[str]) -> None:
        self.group.clock.run_until(self.group.clock.now + int(words[0]) * MS)

    def write(self, words: list[str]) -> None:
        target, client, seq, value = words
        command = Command(APPEND, int(client), int(seq), 0, int(value))
        self.server(target).write(command, self._replier(f"write {client}/{seq}"))

    def renew(self, words: list[str]) -> None:
        target, seq = words
        command = Command(RENEW, 1, int(seq), 0, int(seq))
        self.server(target).write(command, self._replier(f"renewal {seq}"))

    def read(self, words: list[str]) -> None:
        self.asked += 1
        context = b"%d" % self.asked
        self.group.checker.asked(context)
        self.server(words[0]).read(context, self._replier(f"read {self.asked}"))

    def isolate(self, words: list[str]) -> None:
        for other in self.group.slots:
            if other != int(words[0]):
                self.cut([words[0], str(other)])

    def cut(self, words: list[str]) -> None:
        one, other = int(words[0]), int(words[1])
        self.group.network.block(one, other)
        self.group.network.block(other, one)

    def set_wall_clocks(self, words: list[str]) -> None:
        for server in self.group.slots.values():
            server.wall_step = int(words[0]) * SECOND

    def slow(self, words: list[str]) -> None:
        time_us = int(words[1]) * MS
        self.server(words[0]).fsync_slow = (time_us, time_us + 1) if time_us else None

    def state(self, words: list[str]) -> None:
        for slot, server in self.group.slots.items():
            if not server.up:
                self.lines.append(f"  {slot}: {'amnesia' if server.has_amnesia else 'down'}")
                continue
            node, machine = server.node, server.machine
            text = f"  {slot}: {node.role} term {node.term} lead {node.lead}"
            text += f" applied {server.applied} list {machine.lists.get(0, [])}"
            lease = machine.leases.get(0)
            self.lines.append(text + ("" if lease is None else f" lease {lease or 'ended'}"))

    def _note(self, raft_id: int, what: str) -> None:
        self.lines.append(f"  {raft_id} {what}")

    def _replier(self, what: str) -> Callable[[Outcome | None, int], None]:
        def reply(outcome: Outcome | None, leader: int) -> None:
            if outcome is None:
                self.lines.append(f"  {what}: ask {leader or 'later'}")
            else:
                self.lines.append(f"  {what}: version {outcome.version}")

        return reply


def _on(act: Callable[[Server], object]) -> Callable[[Script, list[str]], None]:
    """A command whose only word is a server."""
    return lambda script, words: (act(script.server(words[0])), None)[1]


def _campaign(server: Server) -> None:
    server.node.campaign()
    server.poke()


def _full(server: Server) -> None:
    server.disk_stuck = "full"


COMMANDS: dict[str, Callable[[Script, list[str]], None]] = {
    "group": Script.create,
    "run": Script.run,
    "write": Script.write,
    "renew": Script.renew,
    "read": Script.read,
    "isolate": Script.isolate,
    "cut": Script.cut,
    "wall-clock": Script.set_wall_clocks,
    "slow": Script.slow,
    "state": Script.state,
    "heal": lambda script, words: script.group.network.heal(),
    "transfer": lambda script, words: script.server(words[0]).transfer(int(words[1])),
    "campaign": _on(_campaign),
    "crash": _on(Server.crash),
    "start": _on(Server.start),
    "pause": _on(Server.pause),
    "resume": _on(Server.resume),
    "io-error": _on(lambda server: server.disk.fail_next("error")),
    "full": _on(_full),
    "flip": _on(lambda server: server.disk.corrupt()),
}


def blocks(text: str) -> Iterator[str]:
    """The commands and comments of a file, without outputs."""
    for part in text.strip().split("\n\n"):
        yield part.partition(f"\n{MARK}\n")[0]


def played(text: str) -> str:
    """The same file, with the output that its commands have now."""
    script, parts = Script(), []
    for head in blocks(text):
        command = head.splitlines()[-1]
        if command.startswith("#"):
            parts.append(head)
        else:
            printed = "\n".join(script.run_command(command))
            parts.append(f"{head}\n{MARK}\n{printed}")
    return "\n\n".join(parts) + "\n"
