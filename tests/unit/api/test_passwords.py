"""Proves the routes of passwords: what they refuse, begin, wait for, and never say."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from pgherd.ledger import commands as cmd
from pgherd.ledger.levels import LEVEL
from pgherd.model.credentials import Stage, Which

PATH = "/api/v1/passwords"
VERIFIER = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"


@pytest.fixture(autouse=True)
def upgraded(herd):
    herd.current = msgspec.structs.replace(herd.current, level=LEVEL)


async def primary_has_it(herd):
    await asyncio.sleep(0.02)
    for which, one in herd.current.credentials.items():
        if one.stage is Stage.MADE:
            herd.apply(cmd.StepPassword(which, one.generation, Stage.BOTH))


def test_a_change_begins_and_is_in_use(herd, client):
    herd.react = primary_has_it
    done = client.post(f"{PATH}/rotate", json={"which": "replication", "overlap": "1h"})
    assert done.status_code == 200, done.text
    [one] = done.json()["passwords"]
    assert (one["which"], one["generation"], one["stage"]) == ("replication", 1, "both")
    assert one["former_valid_until"]
    assert done.json()["waits_for"] == ["n1", "n2", "n3"], "their reports do not say so yet"
    assert herd.current.credentials[Which.REPLICATION].overlap_ms == 3_600_000
    assert herd.given == ""
    again = client.post(f"{PATH}/rotate", json={"which": "replication"})
    assert (again.status_code, again.json()["code"]) == (409, "busy")
    ended = client.post(f"{PATH}/end", json={"which": "replication"})
    assert ended.status_code == 200, ended.text
    assert client.post(f"{PATH}/end", json={"which": "rewind"}).json()["code"] == "stale"


def test_it_says_when_it_is_not_in_use_yet(herd, client):
    answer = client.post(f"{PATH}/rotate?wait=0", json={"which": "rewind"})
    assert (answer.status_code, answer.json()["passwords"][0]["stage"]) == (202, "made")


def test_the_superusers_comes_as_a_verifier_and_goes_nowhere(herd, client):
    assert client.post(f"{PATH}/rotate", json={"which": "superuser"}).status_code == 422
    plain = {"which": "superuser", "verifier": "open sesame"}
    assert client.post(f"{PATH}/rotate", json=plain).status_code == 422
    made = {"which": "rewind", "verifier": VERIFIER}
    assert client.post(f"{PATH}/rotate", json=made).status_code == 422
    good = client.post(f"{PATH}/rotate?wait=0", json={"which": "superuser", "verifier": VERIFIER})
    assert good.status_code == 202, good.text
    assert herd.given == VERIFIER
    assert "SCRAM" not in good.text + client.get(PATH).text + str(herd.submitted)


def test_nothing_changes_where_a_member_does_not_take_it(herd, client):
    herd.silent = "n3"
    answer = client.post(f"{PATH}/rotate", json={"which": "replication"})
    assert (answer.status_code, answer.json()["hint"]) == (503, "start n3")
    wrong = client.post(f"{PATH}/rotate", json={"which": "replication", "overlap": "soon"})
    assert wrong.status_code == 422
    assert client.get(PATH).json() == {"passwords": [], "waits_for": []}
