"""Parameters: what pgherd owns wins and the loss is told; the rest is the operator's."""

from __future__ import annotations

import msgspec
import pytest
from psycopg.conninfo import conninfo_to_dict

from pgherd.model.errors import OperatorError
from pgherd.postgres import settings as parameters
from pgherd.postgres.settings import Place, ServerSettings

SETTINGS = ServerSettings(passfile="/run/pgherd/pass file")
PLACE = Place("/data", 5432, "/run/pgherd")


def effective(live=None, demanded=None, **wishes):
    """The parameters of a server whose operator has these wishes."""
    settings = msgspec.structs.replace(SETTINGS, parameters=wishes)
    return parameters.effective(settings, PLACE, live or {}, demanded or {})


def test_the_operator_sets_what_is_not_ours():
    """Free parameters and defaults follow the operator, without a word."""
    found = effective(work_mem="8MB", Max_Standby_Streaming_Delay="5min", wal_keep_size="2GB")
    assert found.values["work_mem"] == "8MB"
    assert found.values["max_standby_streaming_delay"] == "5min"
    assert found.values["wal_keep_size"] == "2GB"
    assert found.overridden == ()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsync", "off"),
        ("restart_after_crash", "on"),
        ("wal_level", "minimal"),
        ("synchronous_commit", "local"),
        ("synchronous_standby_names", "''"),
        ("primary_conninfo", "host=evil"),
        ("max_wal_senders", "1"),
        ("port", "1"),
        ("recovery_target_lsn", "0/1"),
        ("hba_file", "/tmp/hba"),
    ],
)
def test_safety_wins_over_the_operator_and_says_so(name, value):
    """An owned parameter keeps our value and the operator is told which one lost."""
    live = {"synchronous_standby_names": parameters.CLOSED_NAMES, "primary_conninfo": ""}
    found = effective(live, **{name: value})
    assert found.values[name] != value
    assert len(found.overridden) == 1
    assert found.overridden[0].startswith(f"{name} = {value!r} is ignored")


def test_safe_choices_and_higher_limits_are_the_operators():
    """wal_level logical, remote_apply and more senders are as safe as our own values."""
    found = effective(wal_level="logical", synchronous_commit="remote_apply", max_wal_senders="64")
    assert found.overridden == ()
    assert found.values["wal_level"] == "logical"
    assert found.values["synchronous_commit"] == "remote_apply"
    assert found.values["max_wal_senders"] == "64"


def test_connections_for_replication_grow_with_the_cluster():
    """Twice the members, plus room for copies and tools."""
    small = parameters.derive(msgspec.structs.replace(SETTINGS, members=1), PLACE)
    large = parameters.derive(msgspec.structs.replace(SETTINGS, members=7), PLACE)
    assert (small["max_wal_senders"], large["max_wal_senders"]) == ("10", "20")


def test_a_standby_never_gets_less_than_its_wal_demands():
    """PostgreSQL would refuse to start; the wish waits and is told."""
    found = effective(demanded={"max_connections": 100, "max_wal_senders": 5}, max_connections="50")
    assert found.values["max_connections"] == "100"
    assert "this WAL needs 100" in found.overridden[0]


@pytest.mark.parametrize("name", ["data_directory", "bad name", "", "a;b"])
def test_what_is_no_parameter_or_moves_files_is_refused(name):
    """A clear error with a next step."""
    with pytest.raises(OperatorError) as refused:
        effective(**{name: "x"})
    assert refused.value.hint
    with pytest.raises(OperatorError):
        effective(work_mem="1\nfsync = off")


def test_an_archive_of_pgherds_own_wins_over_the_operators() -> None:
    """Without one the operator's command counts; nobody's is PostgreSQL's `true`."""
    ours = msgspec.structs.replace(
        SETTINGS, archive_command="exec push", parameters={"archive_command": "cp %p /a"}
    )
    found = parameters.effective(ours, PLACE, {}, {})
    assert found.values["archive_command"] == "exec push"
    assert "archive_command" in found.overridden[0]
    assert effective(archive_command="cp %p /a").values["archive_command"] == "cp %p /a"
    assert effective().values["archive_command"] == "true"
    assert effective(restore_command="cp").values.get("restore_command", "") == ""


def test_everything_reloadable_stays_off_the_command_line():
    """A `-c` would win over every later reload."""
    assert not set(parameters.ON_COMMAND_LINE) & parameters.RELOADABLE
    assert set(parameters.ON_COMMAND_LINE) <= set(parameters.derive(SETTINGS, PLACE))
    assert parameters.RELOADABLE <= parameters.PURGED_FROM_AUTO_CONF


def test_a_connection_string_is_read_by_libpq_as_it_was_meant():
    """Spaces and quotes survive; no password is in it."""
    settings = msgspec.structs.replace(
        SETTINGS, passfile="/o'dd dir/pass\\file", replication_password="secret"
    )
    text = parameters.upstream_conninfo(
        settings, host="10.0.0.1", port=5433, application_name="b.0a1b2c@12"
    )
    fields = conninfo_to_dict(text)
    assert fields["application_name"] == "b.0a1b2c@12"
    assert fields["passfile"] == "/o'dd dir/pass\\file"
    assert (fields["host"], fields["port"], fields["sslmode"]) == ("10.0.0.1", "5433", "prefer")
    assert "secret" not in text
    assert {"connect_timeout", "tcp_user_timeout", "keepalives_idle"} <= set(fields)
