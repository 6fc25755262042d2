"""Names that this version does not have: other systems' keys, and ours that come later.

Owns the order in which a key that is not ours is looked for, and the wording. The keys of the
products that people come from stand in `others`, which is read only when it is needed; those of
nobody in particular stand here. Leaves finding unknown keys to `load`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pgherd.config.fields import LATER
from pgherd.config.source import Path

NOBODYS: dict[str, str] = {
    "auto_failover": "failover.enabled",
    "cluster.id": "cluster.name",
    "cluster.node_id": "node.name",
    "conninfo": "node.address, postgresql.port and postgresql.superuser",
    "data_directory": "postgresql.data_dir",
    "node.host": "node.address",
    "node.id": "node.name",
    "node.priority": "node.tags.failover_priority",
    "pg_bindir": "postgresql.bin_dir",
    "postgres": "postgresql",
    "priority": "node.tags.failover_priority",
    "proxy.backends": "nothing: the cluster knows its servers",
    "proxy.host": "node.address.proxy.listen",
    "proxy.listen": "node.address.proxy.listen with proxy.listeners",
    "proxy.port": "proxy.listeners: [{port: ..., route: primary}]",
    "proxy.read_port": "proxy.listeners: [{port: ..., route: replica}]",
    "proxy.write_port": "proxy.listeners: [{port: ..., route: primary}]",
    "replication.synchronous_commit": "pgherd sync set --synchronous-commit remote_apply",
    "raft.bind_address": "node.address.raft.listen with raft.port",
    "raft.peers": "raft.members: [n1=10.0.1.1:8300]",
    "reconnect_attempts": "failover.detect",
    "superuser": "postgresql.superuser",
}
"""key that people write without having it from anywhere -> what takes its place."""

ANYWHERE: dict[str, str] = {
    "bind_address": "node.address.<channel>.listen",
    "check_timeout": "failover.probe.timeout",
    "dcs": "this file: failover, replication, postgresql.parameters",
    "pg_hba": "postgresql.hba",
    "recovery_min_apply_delay": "node.tags.delay",
}
"""key of another system, wherever it stands -> what takes its place; beside Patroni's dynamic
configuration, which people put anywhere."""

COMES_LATER: dict[str, str] = {
    "backup": "keep the backup tool that you have",
    "limits": "set MemoryMax in the service's unit",
    "postgresql.initdb": "databases are UTF8 with the locale C.UTF-8, or C where that is missing",
    "store": "the built-in store is used: remove the section",
}
"""key of ours that a later version has -> what to do until then."""


def explain(path: Path, value: object) -> Iterator[tuple[Path, str, str]]:
    """Say about an unknown key what it is, as (path, message, hint); nothing when unheard of."""
    key = _plain(path)
    if key in COMES_LATER:
        hint = COMES_LATER[key]
        later = f"{hint}; remove it" if hint and "remove" not in hint else hint or "remove it"
        yield path, LATER, later
        return
    whole = _section(key)
    deeper = [] if whole else list(explain_within(path, value))
    found = whole or (() if deeper else _place(key, str(path[-1])))
    yield from deeper
    if found:
        owner, place = found
        yield path, f"is {owner} name", f"here it is {place}"


def explain_within(path: Path, value: object) -> Iterator[tuple[Path, str, str]]:
    """The same for every key of a map, or of the maps of a list."""
    if isinstance(value, Mapping):
        inner: Mapping[str, Any] = value
        for name, held in inner.items():
            yield from explain((*path, name), held)
    elif isinstance(value, tuple):
        for number, held in enumerate(value):
            yield from explain_within((*path, number), held)


_ASSIGNED = re.compile(r"\s*([A-Za-z_][\w.]*)\s*=(?!=)")
_HEADING = re.compile(r"\s*\[([\w.]+)\]\s*")
_BLANK = re.compile(r"\s*([#;].*)?")
UNSAID = ("global",)
"""Sections whose keys are known without them."""


def explain_assignments(text: str) -> Iterator[tuple[int, str, str]]:
    """Of a file of `key = value` lines, as (line, key, what to write); nothing for any other."""
    found, section = [], ""
    for number, line in enumerate(text.splitlines(), start=1):
        heading, assigned = _HEADING.fullmatch(line), _ASSIGNED.match(line)
        if heading is not None:
            section = "" if heading[1] in UNSAID else f"{heading[1]}."
        elif assigned is not None:
            key = f"{section}{assigned[1]}"
            known = _place(key, key) or _place(assigned[1], assigned[1])
            found.append((number, key, known[1] if known else ""))
        elif not _BLANK.fullmatch(line):
            return
    if any(place for _, _, place in found):
        yield from found


def _section(key: str) -> tuple[str, str] | tuple[()]:
    """Whose section of which nothing is taken over this is, and what is written instead."""
    from pgherd.config.others import products

    for product in products():
        if key in product.sections:
            return f"{product.name}'s", product.sections[key][0]
    return ()


def _place(key: str, last: str) -> tuple[str, str] | tuple[()]:
    """Whose key it is, and what takes its place; nothing when it is nobody's."""
    from pgherd.config.others import patroni, products

    for product in products():
        if place := product.place(key):
            return f"{product.name}'s", place
    if key in NOBODYS:
        return "another system's", NOBODYS[key]
    if last in patroni.DYNAMIC:
        return "Patroni's", patroni.DYNAMIC[last]
    return ("another system's", ANYWHERE[last]) if last in ANYWHERE else ()


def _plain(path: Path) -> str:
    return ".".join(str(step) for step in path if not isinstance(step, int))
