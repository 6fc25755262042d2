"""What `pgherd adopt` refuses, what it restarts for, and how a second try goes on."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pgherd.api.adoption import ADOPTION_FILE, Adoption
from pgherd.cli import adopting, appraising, place
from pgherd.cli.appraising import Found, Wish
from pgherd.cli.place import Place
from pgherd.model.errors import OperatorError
from pgherd.model.ids import Lsn, Timeline
from pgherd.postgres import strangers
from pgherd.postgres.binaries import Binaries
from pgherd.postgres.pgcontrol import ControlData
from pgherd.postgres.strangers import Answers

GOOD = {
    "wal_level": "replica",
    "max_wal_senders": "10",
    "max_replication_slots": "10",
    "hot_standby": "on",
    "listen_addresses": "*",
    "archive_mode": "off",
    "archive_command": "(disabled)",
}


def control(state: str = "in production") -> ControlData:
    return ControlData(
        system_id="73",
        state=state,
        timeline=Timeline(1),
        checkpoint=Lsn(1),
        redo=Lsn(1),
        min_recovery_end=Lsn(0),
        min_recovery_timeline=Timeline(0),
        backup_start=Lsn(0),
        checksums=True,
        wal_log_hints=False,
        wal_segment_bytes=16 << 20,
    )


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A stopped data directory, as far as it is looked at from outside."""
    data = tmp_path / "pg" / "data"
    (data / "pg_wal").mkdir(parents=True)
    (data / "PG_VERSION").write_text("15\n")
    (data / "postgresql.conf").write_text("port = 5440\nwal_keep_size = 1GB\n")
    (data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
    return data


@pytest.fixture
def found(data_dir: Path) -> Found:
    """It, running well."""
    stranger = msgspec.structs.replace(
        strangers.look(data_dir), pid=os.getpid(), port=5440, socket_dir="/run/postgresql"
    )
    answers = Answers(settings=GOOD, in_recovery=False, followers=(), tablespaces=())
    program = Binaries(Path("/usr/lib/postgresql/15/bin"), (15, 18), has_tls=True)
    return Found(stranger, control(), program, answers, stranger.explicit())


def wish(data_dir: Path, **more: Any) -> Wish:
    return Wish(data_dir=data_dir, name="n1", address="10.0.0.1", **more)


def settings_for(tmp_path: Path, asked: Wish, found: Found) -> tuple[Place, Any]:
    where = Place(tmp_path / "node" / "pgherd.yaml", tmp_path / "node")
    return where, adopting.settings_of(where, asked, adopting.own_values(asked, found))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, ""),
        ({"wal_level": "minimal"}, "wal_level is minimal"),
        ({"max_wal_senders": "3"}, "max_wal_senders is 3"),
        ({"max_replication_slots": "0"}, "max_replication_slots is 0"),
        ({"hot_standby": "off"}, "hot_standby is off"),
        ({"listen_addresses": "localhost"}, "it listens on localhost, not on 10.0.0.1"),
        ({"listen_addresses": ""}, "it listens on no address"),
        ({"listen_addresses": "127.0.0.1, 10.0.0.1"}, ""),
    ],
)
def test_a_restart_has_a_reason(tmp_path, data_dir, found, change, reason) -> None:
    """A server whose parameters allow replication already is not restarted."""
    asked = wish(data_dir)
    answers = msgspec.structs.replace(found.answers, settings=GOOD | change)
    seen = msgspec.structs.replace(found, answers=answers)
    _, settings = settings_for(tmp_path, asked, seen)
    reasons = "; ".join(adopting.restarts(asked, seen, settings))
    assert reasons.startswith(reason) if reason else not reasons


def test_more_reasons_for_a_restart(tmp_path, data_dir, found) -> None:
    """Another port, a service that would end it with itself, no socket, and a person's word."""
    asked = wish(data_dir, port=5442, restart=True)
    stranger = msgspec.structs.replace(found.stranger, unit="postgresql@15-main.service")
    stranger = msgspec.structs.replace(stranger, socket_dir="")
    seen = msgspec.structs.replace(found, stranger=stranger)
    _, settings = settings_for(tmp_path, asked, seen)
    assert adopting.restarts(asked, seen, settings) == [
        "you asked for it",
        "its port 5440 becomes 5442",
        "it has no Unix socket",
        "it is a process of postgresql@15-main.service, which would end it with itself",
    ]
    stopped = msgspec.structs.replace(seen, answers=None)
    assert adopting.restarts(asked, stopped, settings) == []


def test_the_port_of_the_proxy_is_not_the_servers(tmp_path, data_dir, found) -> None:
    """The usual case, for which there are two ways out; clients keep their port by the first."""
    stranger = msgspec.structs.replace(found.stranger, port=5432)
    seen = msgspec.structs.replace(found, stranger=stranger)
    with pytest.raises(OperatorError, match="5432 is the server's and the proxy's") as refused:
        settings_for(tmp_path, wish(data_dir), seen)
    assert "--port 5442" in str(refused.value.hint)
    _, moved = settings_for(tmp_path, wish(data_dir, port=5442), seen)
    assert (moved.postgresql.port, moved.proxy.listeners[0].port) == (5442, 5432)
    _, kept = settings_for(tmp_path, wish(data_dir, base_port=6000), seen)
    assert (kept.postgresql.port, kept.proxy.listeners[0].port) == (5432, 6000)


def test_what_is_there_becomes_the_configuration(tmp_path, data_dir, found) -> None:
    """Its port, socket, owner, lines and parameters; its superuser's password stays unknown."""
    _, settings = settings_for(tmp_path, wish(data_dir), found)
    pg = settings.postgresql
    assert (pg.data_dir, pg.port, str(pg.socket_dir)) == (data_dir, 5440, "/run/postgresql")
    assert pg.superuser.password is None
    assert pg.hba == ("host all all all scram-sha-256",)
    assert dict(pg.parameters) == {"wal_keep_size": "1GB"}


def test_a_standby_founds_nothing_and_a_primary_joins_nothing(data_dir, found) -> None:
    """Each is told what to do instead."""
    standby = msgspec.structs.replace(
        found, answers=msgspec.structs.replace(found.answers, in_recovery=True)
    )
    stopped = msgspec.structs.replace(found, answers=None, control=control("shut down in recovery"))
    joins = wish(data_dir, token="t")
    for copy in (standby, stopped):
        appraising.check_role(joins, copy)
        with pytest.raises(OperatorError, match="is a standby") as refused:
            appraising.check_role(wish(data_dir), copy)
        assert "adopt the primary first" in str(refused.value.hint)
    appraising.check_role(wish(data_dir), found)
    with pytest.raises(OperatorError, match="was, a primary") as refused:
        appraising.check_role(joins, found)
    assert "--move-aside" in str(refused.value.hint)


def test_an_archive_goes_on(tmp_path, data_dir, found) -> None:
    """Backups must not stop silently: the command is carried over, unless its operator says so."""
    archives = GOOD | {"archive_mode": "on", "archive_command": "cp %p /a/%f"}
    answers = msgspec.structs.replace(found.answers, settings=archives)
    seen = msgspec.structs.replace(found, answers=answers)
    _, settings = settings_for(tmp_path, wish(data_dir), seen)
    assert settings.postgresql.parameters["archive_command"] == "cp %p /a/%f"
    assert "goes on to archive" in "; ".join(adopting.notes(seen, settings))
    for asked, had in ((wish(data_dir, no_archiving=True), seen), (wish(data_dir), found)):
        _, settings = settings_for(tmp_path, asked, had)
        assert "archive_command" not in settings.postgresql.parameters
        assert "archive" not in "; ".join(adopting.notes(had, settings))


def test_a_second_try_goes_on(tmp_path, data_dir, found) -> None:
    """With the same name of the directory; not for another one, nor once the node has run."""
    asked = wish(data_dir)
    where, settings = settings_for(tmp_path, asked, found)
    first = adopting.check(where, asked, found, settings)
    adopting.write_adoption(settings, first)
    assert adopting.check(where, asked, found, settings) == first
    other = msgspec.structs.replace(
        found, control=msgspec.structs.replace(control(), system_id="9")
    )
    with pytest.raises(OperatorError, match="is of an adoption of"):
        adopting.check(where, asked, other, settings)
    (settings.raft.data_dir / "member.json").write_text("{}")
    with pytest.raises(OperatorError, match="has run already"):
        adopting.check(where, asked, found, settings)
    written = msgspec.json.decode(
        (settings.raft.data_dir / ADOPTION_FILE).read_bytes(), type=Adoption
    )
    assert (written.system_id, written.founds, len(written.incarnation)) == ("73", True, 6)


def test_a_full_disk_and_a_link_are_refused(tmp_path, data_dir, found) -> None:
    """No node is made of what could not write, or could not be replaced by a copy."""
    asked = wish(data_dir, values={"failover.min_free_disk": "9000TB"})
    _, settings = settings_for(tmp_path, asked, found)
    with pytest.raises(OperatorError, match="MB of room"):
        adopting.check_room(settings)
    adopting.check_parent(data_dir)
    beside = data_dir.with_name("other")
    beside.mkdir()
    (beside / "pgherd.incarnation").write_text("abcdef")
    with pytest.raises(OperatorError, match="beside it"):
        adopting.check_parent(data_dir)
    beside.rename(data_dir.with_name("data.old-1"))
    adopting.check_parent(data_dir)
    link = tmp_path / "link"
    link.symlink_to(data_dir)
    with pytest.raises(OperatorError, match="mount point or a link"):
        adopting.check_parent(link)


def test_debians_configuration_is_found(tmp_path, data_dir) -> None:
    """By its data_directory, with its word on who starts it."""
    etc = tmp_path / "etc" / "15" / "main"
    etc.mkdir(parents=True)
    (etc / "start.conf").write_text("auto\n")
    (etc / "postgresql.conf").write_text(f"data_directory = '{data_dir}'  # use it\n")
    seen = strangers.look(data_dir, debian=tmp_path / "etc")
    assert (seen.debian, seen.config, seen.start_conf) == (
        "15/main",
        etc / "postgresql.conf",
        etc / "start.conf",
    )
    assert seen.files() == (etc / "pg_hba.conf", etc / "pg_ident.conf")
    assert strangers.look(data_dir).debian == ""


@pytest.fixture
def manager(tmp_path: Path, data_dir: Path) -> Iterator[Any]:
    """Start a script named patroni, with a configuration."""
    started: list[subprocess.Popen[bytes]] = []

    def start(text: str) -> int:
        script, config = tmp_path / "patroni", tmp_path / f"{len(started)}.yml"
        script.write_text("import time; time.sleep(600)\n")
        config.write_text(text)
        started.append(subprocess.Popen([sys.executable, str(script), str(config)]))
        return started[-1].pid

    yield start
    for child in started:
        child.kill()
        child.wait()


def test_another_manager_is_found_if_it_minds_this_server(data_dir, manager) -> None:
    """One of another directory on the same machine is left out."""
    manager("postgresql:\n  data_dir: /srv/another\n")
    mine = manager(f"postgresql:\n  data_dir: {data_dir}\n")
    until = time.monotonic() + 10
    while not (seen := strangers.manager_of(data_dir)) and time.monotonic() < until:
        time.sleep(0.05)
    assert seen == f"patroni (process {mine})"


def test_a_directory_is_moved_aside_and_never_over_another(tmp_path) -> None:
    """Each gets a name of its own; where there is nothing nothing happens."""
    data = tmp_path / "data"
    assert place.move_aside(data) is None
    for number in (1, 2):
        data.mkdir()
        (data / "mark").write_text(str(number))
        place.check_movable(data)
        assert place.move_aside(data) == tmp_path / f"data.aside-{number}"
        assert (tmp_path / f"data.aside-{number}" / "mark").read_text() == str(number)
    assert not data.exists()


def test_no_directory_is_none_of_postgresql(tmp_path) -> None:
    """With what to type instead."""
    with pytest.raises(OperatorError, match="no data directory") as refused:
        strangers.look(tmp_path)
    assert "--data-dir" in str(refused.value.hint)


def test_a_version_that_nobody_runs_is_named(data_dir) -> None:
    """Not taken for another one."""
    (data_dir / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(OperatorError, match=r"PostgreSQL 9\.6"):
        strangers.look(data_dir)


def test_what_a_person_has_to_know(tmp_path, data_dir, found) -> None:
    """Slots and standbys of before, places of tablespaces, maps that stay behind, rewinds."""
    answers = msgspec.structs.replace(
        found.answers,
        settings=GOOD | {"synchronous_standby_names": "old"},
        followers=("old",),
        tablespaces=("/fast",),
        slots=(("old", "physical"), ("cdc", "logical")),
    )
    weak = msgspec.structs.replace(control(), checksums=False)
    (data_dir / "pg_hba.conf").write_text("local all all peer map=staff\n")
    seen = msgspec.structs.replace(found, answers=answers, control=weak)
    _, settings = settings_for(tmp_path, wish(data_dir), seen)
    told = "\n".join(adopting.notes(seen, settings))
    for words in (
        "can only be copied anew, not rewound",
        "drops them: old",
        "do not survive a failover: cdc",
        "adopt its standbys next: old",
        "commits wait for no standby",
        "room at /fast",
        "local all all peer map=staff",
    ):
        assert words in told


def test_what_pgherd_overrules_is_named(tmp_path, data_dir, found) -> None:
    """And nothing else: not what it takes over as it is, nor what only says where files are."""
    (data_dir / "postgresql.conf").write_text(
        "port = 5440\nunix_socket_directories = '/run/postgresql'\nfsync = off\n"
        "hba_file = '/x'\nwal_keep_size = 1GB\nwork_mem = 1MB\nlisten_addresses = '*'\n"
    )
    (data_dir / "postgresql.auto.conf").write_text("synchronous_commit = 'off'\n")
    seen = msgspec.structs.replace(found, explicit=found.stranger.explicit())
    seen = msgspec.structs.replace(seen, explicit={**seen.explicit, "hba_file": "/x"})
    (data_dir / "postgresql.conf").write_text("port = 5440\n")
    _, settings = settings_for(tmp_path, wish(data_dir), seen)
    assert adopting.overruled(seen, settings) == [
        ("fsync", "off"),
        ("listen_addresses", "*"),
        ("synchronous_commit", "off"),
    ]
