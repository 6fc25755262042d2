"""The replicated state machine of the simulation: registers, lists, sessions and leases.

Owns what a command does. Exactly-once rests on the session table (client, highest seq, version),
which is part of every snapshot. `version` counts the commands that took effect: a read or a write
is placed in the one order of all commands by the version it saw or made.
"""

from __future__ import annotations

from typing import NamedTuple
from zlib import crc32

import msgspec

SET, APPEND, RENEW, EXPIRE = range(4)


class Command(NamedTuple):
    """SET key=value, APPEND value to a list, RENEW a lease, EXPIRE it (value = renewal)."""

    kind: int
    client: int
    seq: int
    key: int
    value: int


class Outcome(NamedTuple):
    """What a command did. took_effect: not a retry, not an expiry that came too late."""

    took_effect: bool
    version: int


class _State(msgspec.Struct, array_like=True):
    """The machine as a snapshot holds it."""

    version: int
    chain: int
    registers: list[tuple[int, int]]
    lists: list[tuple[int, list[int]]]
    sessions: list[tuple[int, int, int]]
    leases: list[tuple[int, int]]


_encoder = msgspec.msgpack.Encoder()
_command = msgspec.msgpack.Decoder(Command)
_state = msgspec.msgpack.Decoder(_State)


def encode(command: Command) -> bytes:
    """A command as the data of a log entry."""
    return _encoder.encode(command)


def decode(data: bytes) -> Command:
    """The command of a log entry."""
    return _command.decode(data)


class Machine:
    """One replica's state."""

    def __init__(self) -> None:
        self.version = 0
        self.chain = 0
        self.registers: dict[int, int] = {}
        self.lists: dict[int, list[int]] = {}
        self.sessions: dict[int, tuple[int, int]] = {}
        self.leases: dict[int, int] = {}

    def apply(self, data: bytes) -> tuple[Command, Outcome]:
        """Carry out one command; a retry gets the outcome of the first time."""
        command = decode(data)
        self.chain = crc32(data, self.chain)
        if command.kind == EXPIRE:
            return command, self._expire(command)
        known = self.session_of(command)
        if known is not None:
            return command, Outcome(False, known)
        self.version += 1
        self._change(command)
        self.sessions[command.client] = (command.seq, self.version)
        return command, Outcome(True, self.version)

    def session_of(self, command: Command) -> int | None:
        """The version that a retried command made when it took effect; None if it is new."""
        seq, version = self.sessions.get(command.client, (0, 0))
        return version if command.seq <= seq else None

    def _change(self, command: Command) -> None:
        if command.kind == SET:
            self.registers[command.key] = command.value
        elif command.kind == APPEND:
            self.lists.setdefault(command.key, []).append(command.value)
        else:
            self.leases[command.key] = command.value

    def _expire(self, command: Command) -> Outcome:
        """A lease ends only if it was not renewed since its end was proposed (etcd 12528)."""
        if not self.may_expire(command):
            return Outcome(False, self.version)
        self.version += 1
        self.leases[command.key] = 0
        return Outcome(True, self.version)

    def may_expire(self, command: Command) -> bool:
        """Whether the renewal that was seen to run out is still the last one."""
        renewal = self.leases.get(command.key, 0)
        return renewal != 0 and renewal == command.value

    def snapshot(self) -> bytes:
        """The whole state; equal states have equal bytes."""
        state = _State(
            version=self.version,
            chain=self.chain,
            registers=sorted(self.registers.items()),
            lists=sorted(self.lists.items()),
            sessions=self.sessions_for_snapshot(),
            leases=sorted(self.leases.items()),
        )
        return _encoder.encode(state)

    def sessions_for_snapshot(self) -> list[tuple[int, int, int]]:
        """The session table travels with the state: a restored replica must know retries too."""
        return [(client, *last) for client, last in sorted(self.sessions.items())]

    def restore(self, data: bytes) -> None:
        """Become what a snapshot holds; b"" is the machine before any command."""
        state = _state.decode(data) if data else _State(0, 0, [], [], [], [])
        self.version, self.chain = state.version, state.chain
        self.registers = dict(state.registers)
        self.lists = dict(state.lists)
        self.sessions = {client: (seq, version) for client, seq, version in state.sessions}
        self.leases = dict(state.leases)
