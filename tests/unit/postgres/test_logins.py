"""Who logs in as whom while a password changes: for every stage and both turns."""

from __future__ import annotations

import itertools

import pytest

from pgherd.model.credentials import Credential, Stage, Which, role_of
from pgherd.postgres import access, logins
from pgherd.postgres.settings import OtherLogin, ServerSettings

FILE = ServerSettings(passfile="/p", replication_password="file", rewind_password="file-r")
SECRETS = {"f1": "one", "f2": "two"}
FIRST, SECOND = "pgherd_replication", "pgherd_replication_2"


def changed(generation: int, stage: Stage, which: Which = Which.REPLICATION) -> ServerSettings:
    former = f"f{generation - 1}" if generation > 1 else ""
    one = Credential(generation, f"f{generation}", former=former, stage=stage)
    return logins.overlaid(FILE, {which: one}, SECRETS)


@pytest.mark.parametrize(
    ("generation", "stage", "used", "beside", "ended"),
    [
        (1, Stage.MADE, (FIRST, "file"), (SECOND, "one"), ()),
        (1, Stage.BOTH, (SECOND, "one"), (FIRST, "file"), ()),
        (1, Stage.ENDED, (SECOND, "one"), None, (FIRST,)),
        (2, Stage.MADE, (SECOND, "one"), (FIRST, "two"), ()),
        (2, Stage.BOTH, (FIRST, "two"), (SECOND, "one"), ()),
        (2, Stage.ENDED, (FIRST, "two"), None, (SECOND,)),
    ],
)
def test_two_roles_take_turns(generation, stage, used, beside, ended):
    """What is used is always valid, and both are as long as anybody may come with either."""
    settings = changed(generation, stage)
    assert (settings.replication_role, settings.replication_password) == used
    others = (OtherLogin(*beside, replication=True),) if beside else ()
    assert (settings.beside, settings.ended) == (others, ended)
    assert settings.rewind_password == "file-r"
    hba, passfile = access.hba_text(settings), access.passfile_text(settings)
    for role, secret in [used, *([beside] if beside else [])]:
        assert f"host replication {role} all scram-sha-256\n" in hba
        assert f"*:*:*:{role}:{secret}\n" in passfile
    for role in ended:
        assert f" {role} " not in hba
        assert f":{role}:" not in passfile


def test_at_every_moment_whoever_comes_is_let_in():
    """Members are never more than one stage apart: what one uses, the other's server has."""
    stages = (Stage.MADE, Stage.BOTH, Stage.ENDED)
    steps = [changed(generation, stage) for generation in (1, 2) for stage in stages]
    for one, next_ in itertools.pairwise([FILE, *steps]):
        for comes, server in ((one, next_), (next_, one)):
            valid = {server.replication_role: server.replication_password}
            valid |= {other.role: other.password for other in server.beside}
            assert valid[comes.replication_role] == comes.replication_password, comes.mark


def test_the_superuser_keeps_its_name_and_what_is_lacking_is_known():
    settings = changed(1, Stage.ENDED, Which.SUPERUSER)
    assert (settings.superuser, settings.superuser_password) == ("postgres", "one")
    assert (settings.beside, settings.ended) == ((), ())
    rewind = changed(1, Stage.BOTH, Which.REWIND)
    assert rewind.rewind_role == role_of("pgherd_rewind", 1)
    assert not rewind.beside[0].replication
    assert "host postgres pgherd_rewind_2 all" in access.hba_text(rewind)
    going = Credential(2, "f2", former="f1", stage=Stage.BOTH)
    assert logins.needed({Which.REPLICATION: going}) == {"f1", "f2"}
    over = Credential(2, "f2", former="f1", stage=Stage.ENDED)
    assert logins.needed({Which.REPLICATION: over}) == {"f2"}
