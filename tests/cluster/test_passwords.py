"""Passwords change while the herd runs: no restart, and no replica loses its stream."""

from __future__ import annotations

import secrets
import signal
from typing import Any

import psycopg
import pytest

from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.wire import scram

SOON_S = 30.0
BASE = "pgherd_replication"


def rotate(herd: LocalHerd, which: str, *, overlap: str = "1s", **more: str) -> Any:
    body = {"which": which, "overlap": overlap, **more}
    return herd.ask("/passwords/rotate?wait=20", method="POST", body=body, timeout_s=30)


def until_ended(herd: LocalHerd, which: str, generation: int) -> None:
    def ended() -> bool:
        known = herd.ask("/passwords")["passwords"]
        return {"which": which, "generation": generation, "stage": "ended"}.items() <= next(
            one for one in known if one["which"] == which
        ).items()

    herd.wait_for(ended, f"change {generation} of {which} ended", deadline_s=SOON_S)


def streams(herd: LocalHerd, primary: str) -> dict[int, str]:
    """The walsenders of a primary, with the roles that they log in as."""
    rows = herd.query(primary, "SELECT pid, usename FROM pg_stat_replication ORDER BY 1")
    return {int(pid): str(role) for pid, role in rows}


def can_log_in(herd: LocalHerd, primary: str) -> dict[str, bool]:
    rows = herd.query(
        primary, f"SELECT rolname, rolcanlogin FROM pg_authid WHERE rolname ~ '^{BASE}'"
    )
    return {str(role): bool(may) for role, may in rows}


def test_the_password_that_replicas_stream_with_changes_under_their_streams(
    herd: LocalHerd,
) -> None:
    """Two roles take turns; both are valid for a while; then only the new one is.

    Streams go on under the role they began with. A replica that loses its stream later, and a new
    primary's replicas, come back under the new role; a node that knows nothing asks the others.
    """
    primary = herd.wait_primary()
    standby, last = (name for name in herd.nodes if name != primary)
    before = streams(herd, primary)
    assert set(before.values()) == {BASE}
    found = rotate(herd, "replication", overlap="1h")
    assert found["passwords"][0]["stage"] == "both"
    assert can_log_in(herd, primary) == {BASE: True, f"{BASE}_2": True}
    assert streams(herd, primary) == before
    with pytest.raises(NoAnswer) as busy:
        rotate(herd, "replication")
    assert busy.value.status == 409
