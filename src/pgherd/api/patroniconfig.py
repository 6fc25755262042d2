"""A change of Patroni's dynamic configuration, taken apart into what pgherd calls its own. Pure.

Owns which keys there are, and for each other key of Patroni's where that is set here: nothing is
taken and then ignored. What each part does is `configuring`'s, `replication`'s and `slots`'.
"""

from __future__ import annotations

from typing import Any

import msgspec
from pydantic import ValidationError

from pgherd.api.configschema import ConfigWanted, ConfigWantedPostgresql
from pgherd.api.failures import Problem
from pgherd.api.shape import Model
from pgherd.api.slotschema import SlotWanted
from pgherd.api.syncschema import SyncWanted
from pgherd.model.facts import Facts, Mode

ELSEWHERE = {
    "ttl": "failover.lease_ttl in each node's file",
    "loop_wait": "nothing: pgherd acts when something happens, not in rounds",
    "retry_timeout": "nothing: consensus is built in",
    "maximum_lag_on_failover": "failover.max_lag in each node's file; it counts in mode async only",
    "check_timeline": "nothing: an election compares epochs and positions",
    "failsafe_mode": "nothing: a primary holds a lease of its own (failover.lease_ttl)",
    "primary_start_timeout": "failover.start_timeout in each node's file",
    "master_start_timeout": "failover.start_timeout in each node's file",
    "primary_stop_timeout": "nothing: a switchover waits for the old primary",
    "ignore_slots": "replication.slots.ignore in each node's file",
    "standby_cluster": "pgherd cluster promote, pgherd cluster demote",
    "max_timelines_history": "nothing: the history is kept whole",
    "member_slots_ttl": "replication.slots in each node's file",
    "tags": "node.tags in each node's file",
}
OURS = (
    "postgresql",
    "pause",
    "synchronous_mode",
    "synchronous_mode_strict",
    "synchronous_node_count",
    "maximum_lag_on_syncnode",
    "slots",
)
POSTGRESQL = ("parameters", "pg_hba", "pg_ident", "use_slots", "use_pg_rewind")
OFF = (False, None, "off")
ON = (True, "on", "quorum")


class Parts(msgspec.Struct, frozen=True):
    """What a change asks for, part by part; None where it does not name a part."""

    config: ConfigWanted | None
    sync: SyncWanted | None
    pause: bool | None
    keep: tuple[SlotWanted, ...] = ()
    drop: tuple[str, ...] = ()


class Wrong(Exception):
    """Something that cannot be, in words."""


def parts(facts: Facts, given: dict[str, Any], *, by: str, replaces: bool) -> Parts:
    """The change; a Problem that names everything in it that cannot be.

    replaces: named slots are all that the cluster keeps; else they are added, and null drops one.
    """
    wrong = [f"{key}: use {where}" for key, where in ELSEWHERE.items() if key in given]
    wrong += [f"{key} is not known" for key in given if key not in OURS and key not in ELSEWHERE]
    found: dict[str, Any] = {"config": None, "sync": None, "pause": None}
    try:
        found["config"] = config(given, by)
        found["sync"] = sync(facts, given)
        found["pause"] = switch(given, "pause")
        found["keep"], found["drop"] = slots(facts, given, replaces=replaces)
    except Wrong as error:
        wrong.append(str(error))
    except ValidationError as error:
        wrong += [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    if wrong:
        raise Problem(422, "invalid", "; ".join(wrong), hint="nothing was changed")
    return Parts(**found)


def switch(given: dict[str, Any], key: str) -> bool | None:
    """A flag; null is its default, off."""
    value = given.get(key)
    if key in given and not isinstance(value, bool | None):
        raise Wrong(f"{key} is true or false")
    return bool(value) if key in given else None


def config(given: dict[str, Any], by: str) -> ConfigWanted | None:
    """PostgreSQL's part. pg_hba: all behind pgherd's own lines; null: each node's own lines."""
    asked = given.get("postgresql")
    if asked is None:
        return None
    if not isinstance(asked, dict):
        raise Wrong("postgresql is an object")
    strange = [key for key in asked if key not in POSTGRESQL]
    if strange:
        raise Wrong(f"postgresql.{strange[0]} is of each node's file, or not known")
    for key in ("use_slots", "use_pg_rewind"):
        if asked.get(key, True) is not True:
            raise Wrong(f"postgresql.{key} is always true here")
    wanted: dict[str, Any] = {}
    if "parameters" in asked:
        wanted["parameters"] = asked["parameters"]
    if "pg_hba" in asked:
        lines = asked["pg_hba"]
        wanted |= {"hba": lines if lines is not None else [], "hba_whole": lines is not None}
    if "pg_ident" in asked:
        wanted["ident"] = asked["pg_ident"] or []
    if not wanted:
        return None
    return ConfigWanted(
        postgresql=ConfigWantedPostgresql.model_validate(wanted), reason=f"as Patroni's, by {by}"
    )


def sync(facts: Facts, given: dict[str, Any]) -> SyncWanted | None:
    """What commits wait for."""
    wanted: dict[str, Any] = {}
    now, strict = facts.mode_wanted or facts.mode, switch(given, "synchronous_mode_strict")
    is_strict = strict if strict is not None else now is Mode.STRICT
    if "synchronous_mode" in given:
        mode = given["synchronous_mode"]
        if not isinstance(mode, bool | str | None) or mode not in (*OFF, *ON):
            raise Wrong("synchronous_mode is false, true or quorum")
        on = "strict" if is_strict else "quorum"
        wanted["replication"] = on if mode in ON else "async"
    elif strict is not None and now is not Mode.ASYNC:
        wanted["replication"] = "strict" if strict else "quorum"
    if "synchronous_node_count" in given:
        count = given["synchronous_node_count"]
        wanted["num_sync_standbys"] = "auto" if count is None else count
    if "maximum_lag_on_syncnode" in given:
        lag = given["maximum_lag_on_syncnode"]
        wanted["max_lag_bytes"] = 0 if lag in (None, -1) else lag
    return SyncWanted.model_validate(wanted, strict=True) if wanted else None


def slots(
    facts: Facts, given: dict[str, Any], *, replaces: bool
) -> tuple[tuple[SlotWanted, ...], tuple[str, ...]]:
    """Slots to keep, and those to drop."""
    asked = given.get("slots")
    if "slots" not in given:
        return (), ()
    if not isinstance(asked, dict | None):
        raise Wrong("slots is an object")
    kept = {one.name for one in facts.slots if not one.dropping}
    wanted = {name: one for name, one in (asked or {}).items() if one is not None}
    gone = kept - set(wanted) if replaces or asked is None else kept & (set(asked) - set(wanted))
    keep = []
    for name, one in wanted.items():
        if not isinstance(one, dict):
            raise Wrong(f"slots.{name} is an object with a type")
        keep.append(SlotWanted.model_validate({**one, "name": name}))
    return tuple(keep), tuple(sorted(gone))


class AnyConfig(Model):
    """Any of the keys that `GET /config` shows; a PATCH merges them, and null deletes."""

    postgresql: dict[str, Any] | None = None
    pause: bool | None = None
    synchronous_mode: bool | str | None = None
    synchronous_mode_strict: bool | None = None
    synchronous_node_count: int | None = None
    maximum_lag_on_syncnode: int | None = None
    slots: dict[str, Any] | None = None
