"""Passwords change while the herd runs: no restart, and no replica loses its stream."""

from __future__ import annotations

import secrets
from typing import Any

import psycopg
import pytest

from pgherd.model.credentials import role_of
from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.wire import scram

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)

SOON_S = 30.0
BASE = "pgherd_replication"
REWIND = "pgherd_rewind"
REFUSALS = ("password authentication failed", "not permitted to log in", "no pg_hba.conf entry")


def rotate(herd: LocalHerd, which: str, *, overlap: str = "1s", **more: str) -> Any:
    body = {"which": which, "overlap": overlap, **more}
    return herd.ask("/passwords/rotate?wait=20", method="POST", body=body, timeout_s=30)


def generation(herd: LocalHerd, which: str) -> int:
    """How often a password was changed here already."""
    known = herd.ask("/passwords")["passwords"]
    return max([int(one["generation"]) for one in known if one["which"] == which], default=0)


def until_ended(herd: LocalHerd, which: str, number: int) -> None:
    def ended() -> bool:
        known = herd.ask("/passwords")["passwords"]
        return {"which": which, "generation": number, "stage": "ended"}.items() <= next(
            one for one in known if one["which"] == which
        ).items()

    herd.wait_for(ended, f"change {number} of {which} ended", deadline_s=SOON_S)


def streams(herd: LocalHerd, primary: str) -> dict[int, str]:
    """The walsenders of a primary, with the roles that they log in as."""
    rows = herd.query(primary, "SELECT pid, usename FROM pg_stat_replication ORDER BY 1")
    return {int(pid): str(role) for pid, role in rows}


def logs_in(herd: LocalHerd, name: str, role: str, password: str) -> bool:
    """Whether a server takes a role with a password."""
    host, port = herd.server_of(name)
    replicates = {"replication": "true"} if role.startswith(BASE) else {"dbname": "postgres"}
    try:
        where = psycopg.conninfo.make_conninfo(
            host=host, port=port, user=role, password=password, **replicates
        )
        psycopg.connect(where, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        if not any(word in str(error) for word in REFUSALS):
            raise
        return False
    return True


def passfile(herd: LocalHerd, name: str) -> dict[str, str]:
    """With which passwords a node's servers and tools log in at peers, by role."""
    text = (herd.directory / name / "pg" / "pgpass").read_text()
    return {line.split(":")[3]: line.split(":")[4] for line in text.splitlines()}


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
    began = generation(herd, "replication")
    first, second = role_of(BASE, began), role_of(BASE, began + 1)
    before = streams(herd, primary)
    found = rotate(herd, "replication", overlap="1h")
    assert found["passwords"][0]["stage"] == "both"
    assert can_log_in(herd, primary) == {first: True, second: True}
    assert streams(herd, primary) == before
    with pytest.raises(NoAnswer) as busy:
        rotate(herd, "replication")
    assert busy.value.status == 409
    cut = min(before)
    herd.query(primary, f"SELECT pg_terminate_backend({cut})")
    herd.wait_for(
        lambda: cut not in streams(herd, primary) and len(streams(herd, primary)) == 2,
        "a stream again while both are valid",
        deadline_s=SOON_S,
    )
    herd.wait_stable(60)

    before = streams(herd, primary)
    herd.ask("/passwords/end", method="POST", body={"which": "replication"})
    until_ended(herd, "replication", began + 1)
    herd.wait_for(
        lambda: can_log_in(herd, primary) == {first: False, second: True},
        "the former role's end",
        deadline_s=SOON_S,
    )
    assert streams(herd, primary) == before
    herd.query(primary, "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
    herd.wait_for(
        lambda: list(streams(herd, primary).values()) == [second] * 2,
        "streams under the new role",
        deadline_s=SOON_S,
    )
    herd.wait_stable(60)

    book = herd.directory / standby / "raft" / "secrets.json"
    book.unlink()
    herd.kill_agent(standby)
    herd.wait_for(book.exists, "what the others know", deadline_s=SOON_S)
    herd.wait_stable(60)
    herd.switchover(to=standby)
    herd.wait_primary(other_than=primary)
    herd.wait_stable(60)
    assert list(streams(herd, standby).values()) == [second] * 2
    rotate(herd, "replication", overlap="0s")
    until_ended(herd, "replication", began + 2)
    herd.wait_for(
        lambda: can_log_in(herd, standby) == {first: True, second: False},
        "the roles' next turn",
        deadline_s=SOON_S,
    )
    assert not logs_in(herd, standby, first, herd.secrets.replication), "the file's password"
    assert logs_in(herd, standby, first, passfile(herd, last)[first])


def test_the_other_passwords_change_too(herd: LocalHerd) -> None:
    """The role that rewinds takes turns as well; the superuser's is people's own word."""
    primary = herd.wait_primary()
    began = generation(herd, "rewind")
    former, role = role_of(REWIND, began), role_of(REWIND, began + 1)
    password = passfile(herd, primary)[former]
    rotate(herd, "rewind", overlap="0s")
    until_ended(herd, "rewind", began + 1)
    herd.wait_for(
        lambda: not logs_in(herd, primary, former, password),
        "the former role's end",
        deadline_s=SOON_S,
    )
    for name in herd.nodes:
        assert logs_in(herd, primary, role, passfile(herd, name)[role])
    may = f"has_function_privilege('{role}', 'pg_read_binary_file(text)', 'EXECUTE')"
    assert herd.query(primary, f"SELECT {may}") == [(True,)]

    with pytest.raises(NoAnswer) as nothing:
        rotate(herd, "superuser")
    assert nothing.value.status == 422
    began = generation(herd, "superuser")
    for number, password in ((1, "another"), (2, herd.secrets.superuser)):
        made = scram.verifier(password, salt=secrets.token_bytes(16))
        rotate(herd, "superuser", verifier=made)
        until_ended(herd, "superuser", began + number)
        assert logs_in(herd, primary, "postgres", password)
        assert not logs_in(herd, primary, "postgres", f"{password}?")
