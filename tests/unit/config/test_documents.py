"""Everything that is told about keys is true of them: generated file, reference page, examples."""

from __future__ import annotations

from pathlib import Path

import pytest

from pgherd.config.describe import value_of, walk
from pgherd.config.fields import Change
from pgherd.config.generate import EXAMPLES, generate
from pgherd.config.load import load, load_text
from pgherd.config.parameters import CHOICES, OWNED
from pgherd.config.problems import ConfigError
from pgherd.config.reload import diff, strongest
from pgherd.postgres.settings import AT_LEAST, Place, ServerSettings, derive

ROOT = Path(__file__).parents[3]


def test_the_generated_file_loads_to_the_defaults() -> None:
    settings = load_text(generate())
    for described in walk():
        if not described.is_section and described.key not in EXAMPLES:
            assert value_of(settings, described) == described.default, described.key


def test_overrides_round_trip() -> None:
    settings = load_text(
        generate(
            {
                "node.name": "n2",
                "node.address": "fd00::2",
                "node.zone": "no",
                "raft.members": ("n2=[fd00::2]:8300",),
                "raft.tls": {"ca": "/ca.pem", "cert": "/n.pem", "key": "/n.key"},
                "raft.heartbeat": "50ms",
                "postgresql.superuser.password": "file:/etc/pgherd/superuser",
                "postgresql.parameters": {"work_mem": "4MB", "wal_compression": "on"},
                "proxy.listeners": [{"port": 6432, "route": "primary"}],
            }
        )
    )
    again = load_text(generate(_as_overrides(settings)))
    assert again == settings
    assert again.postgresql.parameters == {"work_mem": "4MB", "wal_compression": "on"}
    assert again.node.zone == "no"


def _as_overrides(settings: object) -> dict[str, object]:
    return {
        described.key: value_of(settings, described)  # type: ignore[arg-type]
        for described in walk()
        if not described.is_section
    }


def test_a_key_that_does_not_exist_is_not_generated() -> None:
    with pytest.raises(ConfigError, match=r"raft\.prot"):
        generate({"raft.prot": 1})


def test_every_key_has_a_sentence_and_every_timing_a_limit_with_its_reason() -> None:
    for described in walk():
        if described.info is None:
            assert described.section is not None
            assert described.section.__doc__, described.key
            continue
        assert described.info.comment, described.key
        assert "\n" not in described.info.comment, described.key
        if described.info.unit:
            assert described.info.least is not None, described.key
            assert described.info.why, described.key


@pytest.mark.parametrize(
    "example", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem
)
def test_examples_are_valid(example: Path) -> None:
    env = {"PGHERD_SUPERUSER_PASSWORD": "x", "PGHERD_REPLICATION_PASSWORD": "x"}
    load(example, env, check_files=False)


def test_there_are_examples() -> None:
    assert list((ROOT / "examples").glob("*.yaml"))


def test_the_difference_names_keys_and_what_they_need() -> None:
    old = load_text(generate())
    new = load_text(
        generate(
            {"log.level": "debug", "raft.port": 8301, "postgresql.hba": ["local all all peer"]}
        )
    )
    found = {changed.key: changed.change for changed in diff(old, new)}
    assert found == {
        "raft.port": Change.RESTART,
        "postgresql.hba": Change.RELOAD,
        "log.level": Change.LIVE,
    }
    assert strongest(diff(old, new)) is Change.RESTART
    assert diff(old, old) == ()
    assert strongest(()) is Change.LIVE


def test_parameters_that_postgres_sets_are_refused_before_it_must_override_them() -> None:
    place = Place(data_dir="/d", port=1, socket_dir="/s")
    owned = derive(ServerSettings(passfile="/p"), place)
    assert set(owned) - set(OWNED) - set(CHOICES) <= set(AT_LEAST)
    assert not set(OWNED) & (set(CHOICES) | set(AT_LEAST))
