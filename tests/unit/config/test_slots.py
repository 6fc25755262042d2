"""The budgets of slots: sizes with units, limits that leave a way back, names that can be."""

from __future__ import annotations

import pytest

from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.daemon import translate

NODE = "version: 1\nnode: {name: n1, address: {advertise: 127.0.0.1}}\npostgresql: {}\n"


def test_they_reach_the_deciders_and_the_server() -> None:
    slots = "{keep_max: 2GB, min_free_disk: 0B, ignore: [pgherd_backup]}"
    settings = load_text(f"{NODE}replication: {{slots: {slots}}}")
    policy = translate.policy(settings)
    assert (policy.slot_min_free_disk_bytes, policy.ignore_slots) == (0, ("pgherd_backup",))
    assert translate.server_settings(settings).slot_wal_max == "2048MB"
    assert translate.server_settings(load_text(NODE)).slot_wal_max == "10240MB"


@pytest.mark.parametrize(
    ("slots", "words"),
    [
        ("{keep_max: 1MB}", "replication.slots.keep_max"),
        ("{ignore: [Backup-1]}", "is not the name of a slot"),
    ],
)
def test_what_cannot_be_is_refused(slots: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(f"{NODE}replication: {{slots: {slots}}}")
    assert words in "\n".join(str(problem) for problem in caught.value.problems)
