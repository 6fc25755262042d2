"""Runs scenario files: a story as comments, commands, and everything that the nodes then did.

Owns the little language and its printing. A block is a command line, a line `----`, and its output
up to an empty line. PGHERD_GOLDEN=1 rewrites the output instead of comparing it.

    nodes N [learners=a,b] [pre_vote] [check_quorum] [step_down] [inflight=N] [message=BYTES]
    add ID...            new nodes that know nobody
    campaign ID | propose ID WORD... | change ID OP... [implicit|explicit|old]
    transfer ID TO | forget ID | read ID WORD | unreachable ID PEER | snapshot-failed ID PEER
    tick ID [TIMES] | timeout ID TICKS
    ready ID...          handle one Ready of each: store, send, apply
    deliver ID [TYPE ...] [COUNT] | drop ID [TYPE ...] [COUNT]
    repeat ID [TYPE ...] deliver, and leave what was delivered on its way once more
    run [ID...]          ready and deliver until nothing is left (among these nodes)
    quiet COMMAND...     do it without output
    cut A B | isolate ID | heal | crash ID | restart ID | compact ID
    log ID | status ID | state
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tests.unit.raft.network import Network

from pgherd.raft.conformance import (
    Entry,
    Msg,
    Progress,
    ProposalDropped,
    Ready,
    decode_conf_change,
)

MARK = "----"
FLAGS = {
    "pre_vote": "pre_vote",
    "check_quorum": "check_quorum",
    "step_down": "step_down_on_removal",
}
NUMBERS = {"inflight": "max_inflight", "message": "max_size_per_msg"}


class Scenario:
    """One file's nodes, and the lines that the current command has printed."""

    def __init__(self) -> None:
        self.network = Network()
        self.lines: list[str] = []
        self.config: dict[str, object] = {}

    def run_command(self, line: str) -> list[str]:
        """Do one command and return what it printed."""
        self.lines = []
        name, *words = line.split()
        if name == "quiet":
            self.run_command(" ".join(words))
            return ["ok"]
        try:
            COMMANDS[name](self, words)
        except ProposalDropped as why:
            self.lines.append(f"dropped: {why}")
        return self.lines or ["ok"]

    # -- commands ----------------------------------------------------------------------------------

    def nodes(self, words: list[str]) -> None:
        count, *options = words
        learners: list[int] = []
        for option in options:
            key, _, value = option.partition("=")
            if key == "learners":
                learners = [int(one) for one in value.split(",")]
            elif key in NUMBERS:
                self.config[NUMBERS[key]] = int(value)
            else:
                self.config[FLAGS[key]] = True
        self.network = Network.of(int(count), learners=learners, **self.config)

    def add(self, words: list[str]) -> None:
        for word in words:
            self.network.add(int(word), **self.config)

    def change(self, words: list[str]) -> None:
        node, *rest = words
        transition = next((one for one in rest if one in ("implicit", "explicit")), "auto")
        ops = [(one[0], int(one[1:])) for one in rest if one[1:].isdecimal()]
        self.network.node(int(node)).propose_conf_change(
            ops,
            v1="old" in rest,
            transition=transition,  # type: ignore[arg-type]
        )

    def propose(self, words: list[str]) -> None:
        node, *values = words
        for value in values:
            self.network.node(int(node)).propose(value.encode())

    def ready(self, words: list[str]) -> None:
        for word in words:
            self._process(int(word))

    def deliver(self, words: list[str]) -> None:
        self._take(words, lambda message: self._deliver(message))

    def repeat(self, words: list[str]) -> None:
        again: list[Msg] = []
        self._take(words, lambda message: (again.append(message), self._deliver(message))[1])
        self.network.under_way.extend(again)

    def drop(self, words: list[str]) -> None:
        self._take(words, lambda message: self.lines.append(f"  lost {show_message(message)}"))

    def run(self, words: list[str]) -> None:
        chosen = [int(word) for word in words] or sorted(self.network.members)
        while True:
            before = len(self.lines)
            for node in chosen:
                member = self.network.members[node]
                if member.is_up and member.node.has_ready():
                    self._process(node)
            for node in chosen:
                self._take([str(node)], self._deliver)
            if len(self.lines) == before:
                return

    def log(self, words: list[str]) -> None:
        storage = self.network.members[int(words[0])].storage
        self.lines.append(f"  behind {storage.base.term}/{storage.base.index}")
        self.lines.extend(f"  {show_entry(entry)}" for entry in storage.log)

    def status(self, words: list[str]) -> None:
        progress = self.network.node(int(words[0])).status().progress
        self.lines.extend(f"  {node}: {show_progress(one)}" for node, one in progress.items())

    def state(self, words: list[str]) -> None:
        for node, member in self.network.members.items():
            status = member.node.status()
            where = f"term {status.term} lead {status.lead} commit {status.commit}"
            conf = show_conf(status.conf)
            up = "" if member.is_up else " (down)"
            self.lines.append(f"  {node}: {status.role}{up} {where} {conf} {member.values()}")

    # -- inside ------------------------------------------------------------------------------------

    def _process(self, node: int) -> None:
        ready = self.network.process(node)
        self.lines.append(f"{node} ready{' sync' if ready.must_sync else ''}")
        self.lines.extend(f"  {line}" for line in show_ready(ready))

    def _take(self, words: list[str], act: Callable[[Msg], None]) -> None:
        to, *kinds = words
        count = int(kinds.pop()) if kinds and kinds[-1].isdecimal() else None
        chosen = [
            one
            for one in self.network.under_way
            if one.to == int(to) and one.type in (kinds or [one.type])
        ][:count]
        if not chosen or not self.network.members[int(to)].is_up:
            return
        self.network.under_way = [
            one for one in self.network.under_way if not any(one is other for other in chosen)
        ]
        self.lines.append(f"{to} receives")
        for message in chosen:
            act(message)

    def _deliver(self, message: Msg) -> None:
        self.lines.append(f"  {show_message(message)}")
        self.network.deliver(message)


Command = Callable[[Scenario, list[str]], None]


def _on_node(act: Callable[[Network, int, list[str]], object]) -> Command:
    """A command whose first word is a node and that prints nothing by itself."""

    def command(scenario: Scenario, words: list[str]) -> None:
        act(scenario.network, int(words[0]), words[1:])

    return command


COMMANDS: dict[str, Command] = {
    "nodes": Scenario.nodes,
    "add": Scenario.add,
    "change": Scenario.change,
    "propose": Scenario.propose,
    "ready": Scenario.ready,
    "deliver": Scenario.deliver,
    "drop": Scenario.drop,
    "repeat": Scenario.repeat,
    "run": Scenario.run,
    "log": Scenario.log,
    "status": Scenario.status,
    "state": Scenario.state,
    "heal": lambda scenario, words: scenario.network.heal(),
    "campaign": _on_node(lambda net, node, rest: net.node(node).campaign()),
    "transfer": _on_node(lambda net, node, rest: net.node(node).transfer_leader(int(rest[0]))),
    "forget": _on_node(lambda net, node, rest: net.node(node).forget_leader()),
    "read": _on_node(lambda net, node, rest: net.node(node).read_index(rest[0].encode())),
    "unreachable": _on_node(
        lambda net, node, rest: net.node(node).report_unreachable(int(rest[0]))
    ),
    "snapshot-failed": _on_node(
        lambda net, node, rest: net.node(node).report_snapshot(int(rest[0]), False)
    ),
    "tick": _on_node(lambda net, node, rest: net.tick(node, int(rest[0]) if rest else 1)),
    "timeout": _on_node(
        lambda net, node, rest: net.node(node).set_randomized_election_timeout(int(rest[0]))
    ),
    "cut": _on_node(lambda net, node, rest: net.cut(node, int(rest[0]))),
    "isolate": _on_node(lambda net, node, rest: net.isolate(node)),
    "crash": _on_node(lambda net, node, rest: net.crash(node)),
    "restart": _on_node(lambda net, node, rest: net.restart(node)),
    "compact": _on_node(lambda net, node, rest: net.compact(node)),
}


# -- files ---------------------------------------------------------------------------------------


def played(text: str) -> str:
    """The same file, with the output that its commands have now."""
    scenario, parts = Scenario(), []
    for part in text.strip().split("\n\n"):
        head = part.partition(f"\n{MARK}\n")[0]
        command = head.splitlines()[-1]
        if command.startswith("#"):
            parts.append(head)
        else:
            printed = "\n".join(scenario.run_command(command))
            parts.append(f"{head}\n{MARK}\n{printed}")
    return "\n\n".join(parts) + "\n"


# -- printing ------------------------------------------------------------------------------------


def show_entry(entry: Entry) -> str:
    where = f"{entry.term}/{entry.index}"
    if entry.type == "normal":
        return f"{where} {entry.data.decode()}".rstrip() if entry.data else f"{where} (empty)"
    ops, transition = decode_conf_change(entry)
    words = " ".join(f"{kind}{node}" for kind, node in ops) or "leave"
    return f"{where} {entry.type} {words}" + ("" if transition == "auto" else f" {transition}")


def show_conf(conf: object) -> str:
    """Voters, outgoing voters after &&, learners, those to come."""
    fields = {name: getattr(conf, name) for name in conf.__struct_fields__}  # type: ignore[attr-defined]
    text = _ids(fields["voters"])
    if fields["voters_outgoing"]:
        text += "&&" + _ids(fields["voters_outgoing"])
    if fields["learners"]:
        text += " learners " + _ids(fields["learners"])
    if fields["learners_next"]:
        text += " then " + _ids(fields["learners_next"])
    return text + (" auto-leave" if fields["auto_leave"] else "")


def _ids(ids: Iterable[int]) -> str:
    return "(" + " ".join(str(one) for one in ids) + ")"


def show_message(message: Msg) -> str:
    text = f"{message.frm}->{message.to} {message.type} term {message.term}"
    if message.index or message.log_term:
        text += f" at {message.log_term}/{message.index}"
    if message.reject:
        text += f" rejected, hint {message.reject_hint}"
    if message.commit:
        text += f" commit {message.commit}"
    if message.context:
        readable = message.context.isascii() and message.context.decode().isprintable()
        text += f" context {message.context.decode() if readable else message.context.hex()}"
    if message.entries:
        text += " [" + ", ".join(show_entry(one) for one in message.entries) + "]"
    if message.snapshot is not None:
        snapshot = message.snapshot
        text += f" snapshot {snapshot.term}/{snapshot.index} {show_conf(snapshot.conf)}"
    return text


def show_ready(ready: Ready) -> list[str]:
    lines = []
    if ready.soft is not None:
        lines.append(f"{ready.soft[1]}, lead {ready.soft[0]}")
    if ready.hard is not None:
        lines.append(
            f"hard term {ready.hard.term} vote {ready.hard.vote} commit {ready.hard.commit}"
        )
    if ready.snapshot is not None:
        lines.append(f"snapshot {ready.snapshot.term}/{ready.snapshot.index}")
    lines.extend(f"store {show_entry(one)}" for one in ready.entries)
    lines.extend(f"apply {show_entry(one)}" for one in ready.committed)
    lines.extend(f"read {ctx.decode()} from {index}" for index, ctx in ready.read_states)
    lines.extend(f"send {show_message(one)}" for one in ready.messages)
    return lines


def show_progress(progress: Progress) -> str:
    text = f"{progress.state} match {progress.match} next {progress.next}"
    marks = {
        "learner": progress.learner,
        "paused": progress.paused,
        "inactive": not progress.active,
        f"pending {progress.pending_snapshot}": progress.pending_snapshot > 0,
        f"inflight {progress.inflight}": progress.inflight > 0,
        "full": progress.inflight_full,
    }
    return text + "".join(f" {mark}" for mark, is_set in marks.items() if is_set)
