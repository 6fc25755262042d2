"""The archive's keys: one way at a time, and never beside an archive_command of the operator's."""

from __future__ import annotations

import pytest

from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.daemon import translate

NODE = "version: 1\nnode: {name: n1, address: {advertise: 127.0.0.1}%s}\npostgresql: {%s}\n"


def text(archive: str = "", *, tags: str = "", parameters: str = "") -> str:
    node = f", tags: {{{tags}}}" if tags else ""
    own = f"parameters: {{{parameters}}}" if parameters else ""
    return NODE % (node, own) + (f"archive: {{{archive}}}\n" if archive else "")


def test_the_kinds_of_archive() -> None:
    """None, a directory, commands; from where it is fetched follows."""
    none, directory = load_text(text()), load_text(text("directory: /mnt/wal"))
    commands = load_text(text("command: 'push %p %f', restore_command: 'get %f %p'"))
    only = load_text(text("command: 'push %p %f', queue_max: 1GB, timeout: 5s, tries: 1"))
    found = [
        (one.archive.kind, one.archive.place, one.archive.source)
        for one in (none, directory, commands, only)
    ]
    assert found == [
        ("", "", ""),
        ("directory", "/mnt/wal", "/mnt/wal"),
        ("command", "push %p %f", "get %f %p"),
        ("command", "push %p %f", ""),
    ]
    assert (only.archive.queue_max_bytes, only.archive.timeout_ms) == (1 << 30, 5000)


def test_what_is_told_of_it_has_no_secret() -> None:
    """Two commands that differ are two archives all the same."""
    one, other = (
        load_text(text(f"command: 'push --key={key} %p'")).archive.shown for key in ("abc", "xyz")
    )
    assert one.startswith("command push (")
    assert "abc" not in one
    assert one != other
    assert load_text(text("directory: /mnt/wal")).archive.shown == "directory /mnt/wal"
    assert load_text(text()).archive.shown == ""


def test_a_node_that_joins_is_told_of_it() -> None:
    """What it writes into its own file makes the same section."""
    for written in ("directory: /mnt/wal", "command: 'a %p %f', restore_command: 'b %f %p'"):
        settings = load_text(text(f"{written}, queue_max: 2GB"))
        keys = translate.shared(settings).archive
        assert all(key.startswith("archive.") for key in keys)
        again = ", ".join(f"{key.removeprefix('archive.')}: '{v}'" for key, v in keys.items())
        assert load_text(text(again)).archive == settings.archive
    assert translate.shared(load_text(text())).archive == {}


def test_an_operators_own_command_is_his() -> None:
    """Without the section it is a parameter as any other."""
    settings = load_text(text(parameters="archive_command: 'cp %p /a/%f', archive_timeout: 60"))
    assert settings.postgresql.parameters["archive_command"] == "cp %p /a/%f"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (text("directory: /a, command: 'x %p %f'"), "does not go with command"),
        (text("restore_command: 'get %f %p'"), "that nobody fills"),
        (text("command: 'cp /tmp'"), "names no %p"),
        (text("command: 'push %p', restore_command: 'get %p'"), "names no %f"),
        (text("tries: 0"), "at least 1"),
        (text("directory: /a", parameters="archive_command: 'cp %p %f'"), "does not go with the"),
        (text("directory: /a", parameters="archive_library: basic_archive"), "does not go with"),
        (text(tags="nostream: true"), "needs an archive to follow by"),
        (text("command: 'push %p %f'", tags="nostream: true"), "needs an archive to follow by"),
        (text("directory: /a", tags="nostream: true, delay: 1h"), "does not go with replicatefrom"),
        (text(parameters="archive_mode: always"), "belongs to pgherd"),
        (text(parameters="restore_command: 'cp %f %p'"), "belongs to pgherd"),
    ],
)
def test_what_cannot_be_is_refused(written: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_text(written)
    assert words in "\n".join(str(problem) for problem in caught.value.problems)


def test_who_follows_by_the_archive_is_no_heir_and_no_voter() -> None:
    """The ledger needs no new word for it, so older programs understand it too."""
    settings = load_text(text("directory: /a", tags="nostream: true"))
    tags = translate.own_record(settings).tags
    assert (tags.nofailover, tags.nosync) == (True, True)
