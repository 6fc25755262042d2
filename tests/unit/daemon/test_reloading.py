"""Every key of the configuration does at a reload what its page says: one that is live or reload
reaches something that runs, one that needs a restart changes nothing until then."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pgherd.config.describe import Described, value_of, walk
from pgherd.config.fields import Change
from pgherd.config.load import load_text
from pgherd.config.reload import LISTENERS, take
from pgherd.config.settings import Settings
from pgherd.daemon.reloading import ARCHIVE, AT_ONCE, SERVER, SLOWLY

PARTS = {part.name: part.of for part in AT_ONCE} | SLOWLY
TLS = {"ca": "/a/ca.crt", "cert": "/a/n.crt", "key": "/a/n.key"}
TLS_ELSEWHERE = {name: path.replace("/a/", "/b/") for name, path in TLS.items()}
SERVED = {name: TLS[name] for name in ("cert", "key")}
SERVED_ELSEWHERE = {name: TLS_ELSEWHERE[name] for name in ("cert", "key")}
FIRST = {"port": 5432, "route": "primary", "pool": "session"}
SECOND = {"port": 5433, "route": "replica"}
ADDRESS = {"listen": "0.0.0.0", "advertise": "10.0.1.1"}
BASE: dict[str, Any] = {
    "version": 1,
    "cluster": {"name": "main"},
    "node": {"name": "n1", "address": ADDRESS, "zone": "a"},
    "raft": {"tls": TLS},
    "postgresql": {
        "superuser": {"password": "env:SECRET_1"},
        "replication": {"password": "env:SECRET_1"},
        "rewind": {"password": "env:SECRET_1"},
    },
    "api": {"tls": SERVED},
    "proxy": {"listeners": [FIRST, SECOND], "tls": SERVED},
}
TOKEN = {"name": "me", "role": "admin", "sha256": "a" * 64}
OTHER: dict[str, Any] = {
    "version": None,
    "cluster.name": "other",
    "node.name": "n2",
    "node.address": ADDRESS | {"advertise": "10.0.1.2"},
    "node.zone": "b",
    "node.tags.replicatefrom": "n3",
    "node.tags.labels": {"rack": "a1"},
    "raft.members": ["n1=10.0.1.1:8300", "n2=10.0.1.2:8300"],
    "raft.heartbeat": "120ms",
    "raft.election_timeout": "1200ms",
    "failover.detect": "1700ms",
    "raft.tls": TLS_ELSEWHERE,
    "postgresql.bin_dir": "/opt/pg/bin",
    "postgresql.user": "pg",
    "postgresql.database": "app",
    "postgresql.tls": TLS,
    "postgresql.parameters": {"work_mem": "5MB"},
    "postgresql.hba": ["host all all samenet trust"],
    "postgresql.superuser.username": "boss",
    "postgresql.superuser.password": "env:SECRET_2",
    "postgresql.replication.username": "stream",
    "postgresql.replication.password": "env:SECRET_2",
    "postgresql.rewind.username": "back",
    "postgresql.rewind.password": "env:SECRET_2",
    "postgresql.bootstrap.command": ["/bin/restore"],
    "postgresql.clone.command": ["/bin/copy"],
    "failover.lease_ttl": "12s",
    "failover.fence": {"command": ["/bin/true"]},
    "replication.num_sync": 1,
    "replication.slots.ignore": ["mine"],
    "proxy.listeners": [FIRST | {"port": 6432}],
    "proxy.tls": SERVED_ELSEWHERE,
    "proxy.allow": ["10.0.0.0/8"],
    "proxy.limits.users": {"app": 3},
    "proxy.limits.databases": {"app": 3},
    "proxy.pools.users": {"app": {"size": 3}},
    "proxy.pools.databases": {"app": {"dbname": "shop"}},
    "proxy.pools.ignore_startup_parameters": ["extra_float_digits"],
    "proxy.pools.admins": ["ann"],
    "proxy.pools.viewers": ["ann"],
    "proxy.read_timeout": "7s",
    "proxy.write_timeout": "7s",
    **{
        f"hooks.{name}": "/bin/true"
        for name in (
            *("pre_promote", "on_role_change", "on_start", "on_stop", "on_restart"),
            *("on_reload", "on_switchover", "on_failover"),
        )
    },
    "hooks.webhook": [{"url": "https://example.com/x"}],
    "standby_cluster.hosts": ["10.0.2.1:5432"],
    "standby_cluster.primary_slot_name": "herd",
    "vip": [{"address": "10.0.1.100/24", "interface": "eth0"}],
    "api.bind": "127.0.0.9",
    "api.tls": SERVED_ELSEWHERE,
    "api.tokens": [TOKEN],
    "api.allow": ["10.0.0.0/8"],
    "api.clients": [{"name": "ann", "role": "viewer"}],
    "archive.command": "push %p",
    "archive.restore_command": "get %p %f",
    "metrics.port": 9090,
    "metrics.bind": "127.0.0.9",
}
"""key -> another value, where none can be made from its default."""
BESIDE: dict[str, tuple[tuple[str, Any], ...]] = {
    "node.tags.nostream": (("archive.directory", "/mnt/archive"),),
    **{
        f"proxy.pools.{name}": (("proxy.listeners", [FIRST | {"pool": "transaction"}, SECOND]),)
        for name in ("admins", "viewers")
    },
    "archive.command": (("archive.command", "old %p"), ("archive.restore_command", "old %p %f")),
    "archive.restore_command": (
        ("archive.command", "old %p"),
        ("archive.restore_command", "old %p %f"),
    ),
}
"""key -> what has to stand beside it, before and after."""
KEYS = [described for described in walk() if not described.is_section]
UNCHANGEABLE = ("version",)


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_1", "one")
    monkeypatch.setenv("SECRET_2", "two")


def another(described: Described) -> Any:
    """A valid value that differs from the one in BASE."""
    if described.key in OTHER:
        return OTHER[described.key]
    now, info = described.default, described.info
    if isinstance(now, bool):
        return not now
    if len(described.values) > 1:
        return next(word for word in described.values if word != str(now))
    if isinstance(now, int):
        assert info is not None
        more = {"duration": f"{now + 1000}ms", "size": f"{now + (1 << 20)}B"}
        return more.get(info.unit, now + 1)
    return "/somewhere/else"


def loaded(*changes: tuple[str, Any]) -> Settings:
    values = json.loads(json.dumps(BASE))
    for key, value in changes:
        *above, last = key.split(".")
        here = values
        for step in above:
            here = here.setdefault(step, {})
        here[last] = value
    return load_text(json.dumps(values))


def running(settings: Settings) -> dict[str, Any]:
    return {name: of(settings) for name, of in PARTS.items()}


def test_every_key_has_another_value() -> None:
    """A new key needs a line in OTHER, unless its default says what else it could be."""
    assert set(OTHER) <= {described.key for described in KEYS}
    for described in KEYS:
        if described.key not in UNCHANGEABLE:
            beside = BESIDE.get(described.key, ())
            old, new = loaded(*beside), loaded(*beside, (described.key, another(described)))
            assert value_of(new, described) != value_of(old, described), described.key


@pytest.mark.parametrize(
    "described", [one for one in KEYS if one.key not in UNCHANGEABLE], ids=lambda one: one.key
)
def test_a_key_does_at_a_reload_what_its_page_says(described: Described) -> None:
    assert described.info is not None
    change, key = described.info.change, described.key
    beside = BESIDE.get(key, ())
    old, new = loaded(*beside), loaded(*beside, (key, another(described)))
    taken = take(old, new)
    before, after = running(old), running(taken.settings)
    reached = {name for name in PARTS if before[name] != after[name]}
    if change is Change.RESTART:
        assert key in {one.key for one in taken.waits}
        assert not taken.applied
        assert not reached, "it is in force without a restart"
        return
    assert [one.key for one in taken.applied] == [key]
    assert not taken.waits
    assert reached, "nothing that runs takes it: it needs a restart"
    if change is Change.LIVE:
        assert SERVER not in reached, "PostgreSQL is reloaded for it"
    else:
        assert reached & {SERVER, ARCHIVE, "peers' files", "API's files", "proxy"}


def test_what_waits_is_told_again_and_what_is_in_force_is_not() -> None:
    """The second reload of the same file applies nothing, and the restart is still due."""
    new = loaded(("log.level", "debug"), ("raft.port", 8301))
    first = take(loaded(), new)
    again = take(first.settings, new)
    assert [one.key for one in first.applied] == ["log.level"]
    assert again.applied == ()
    assert [one.key for one in again.waits] == ["raft.port"]
    assert again.settings == first.settings
    back = take(first.settings, loaded())
    assert [one.key for one in back.applied] == ["log.level"]
    assert back.waits == ()
    assert back.settings == loaded()


def test_of_a_port_that_stays_what_may_change_does() -> None:
    """The last three keys of a listener; a port more, less or another waits."""
    old = loaded()
    limited = take(old, loaded((LISTENERS, [FIRST | {"limit": 9}, SECOND])))
    assert limited.waits == ()
    assert limited.settings.proxy.listeners[0].limit == 9
    both = take(old, loaded((LISTENERS, [SECOND | {"limit": 9}, FIRST | {"port": 6432}])))
    assert [one.key for one in both.applied] == [LISTENERS]
    assert [one.key for one in both.waits] == [LISTENERS]
    assert [(one.port, one.limit) for one in both.settings.proxy.listeners] == [
        (5432, None),
        (5433, 9),
    ]


@pytest.mark.parametrize("key", ["raft.tls", "api.tls"])
def test_whether_there_is_tls_at_all_is_for_the_next_start(key: str) -> None:
    near = ("node.address", "127.0.0.1")
    with_tls, without = loaded(near), loaded(near, (key, None))
    for old, new in ((with_tls, without), (without, with_tls)):
        taken = take(old, new)
        assert [one.key for one in taken.waits] == [key]
        assert taken.settings == old


def test_what_a_node_is_does_not_change_while_it_runs() -> None:
    """A data member whose section is gone, and a proxy node that gets one, wait as a whole."""
    data = loaded()
    text = json.dumps({name: held for name, held in BASE.items() if name != "postgresql"})
    proxy = load_text(text)
    for old, new in ((data, proxy), (proxy, data)):
        taken = take(old, new)
        assert taken.settings.kind is old.kind
        assert taken.settings.postgresql == old.postgresql
        assert "postgresql" in {one.key for one in taken.waits}
        assert take(taken.settings, old).waits == ()
