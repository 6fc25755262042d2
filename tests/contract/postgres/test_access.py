"""Who may log in, and roles' parameters, as real servers check them before they take effect."""

from __future__ import annotations

import msgspec
import psycopg
import pytest

from pgherd.act import configuring
from pgherd.model import action as act
from pgherd.model.pgconfig import Access, ConfigAsked, ConfigVersion
from pgherd.postgres import accesscheck, checking
from pgherd.postgres.accesscheck import AccessRefused
from pgherd.postgres.settings import HBA_FILE, IDENT_FILE

pytestmark = pytest.mark.cluster


def with_access(server, *hba, ident=(), whole=False):
    managed = Access(hba=hba, ident=ident, whole=whole)
    return msgspec.structs.replace(server.settings, access=managed)


def test_lines_are_checked_by_the_server_and_take_effect_by_a_reload(lab, play):
    """A bad line is named with PostgreSQL's reason and changes no file; a good one lets in or not.

    pgherd's own lines stay first in every form, so its own sessions and replication go on.
    """

    async def story():
        server = await lab.primary("a")
        await server.acting.rows("CREATE ROLE app LOGIN PASSWORD 'app'")
        files = [server.data_dir / name for name in (HBA_FILE, IDENT_FILE)]
        before = [file.read_text() for file in files]
        for hba, ident, words in (
            ("host all app 10.0.0.0/8 scram-sha", (), ("hba line 1", "scram-sha", "invalid auth")),
            ("host all app 10.0.0.0/99 md5", (), ("hba line 1", "10.0.0.0/99")),
            ("hots all app all md5", (), ("hba line 1", "TYPE DATABASE")),
            ("host all all all md5", ("ops /( app",), ("ident line 1", "regular expression")),
            ("host all all all md5", ("pgherd bob postgres",), ("ident line 1", "own")),
        ):
            [problem] = await accesscheck.problems(server, with_access(server, hba, ident=ident))
            assert all(word in problem for word in words), problem
        good = with_access(server, "# nobody yet", "host all app 127.0.0.1/32 reject")
        assert await accesscheck.problems(server, good) == []
        with pytest.raises(AccessRefused):
            await server.reconfigure(with_access(server, "host all app 127.0.0.1/32 scram"))
        assert [file.read_text() for file in files] == before
        assert await enters(server)

        await server.reconfigure(good)
        assert not await enters(server)
        await server.reconfigure(with_access(server, whole=True))
        assert not await enters(server), "the default is not there either"
        open_to_all = with_access(server, "host all all all scram-sha-256", whole=True)
        await server.reconfigure(open_to_all)
        assert await enters(server)
        follower = await lab.replica("b", server)
        assert (await follower.look()).receiver is not None
        lines = [line for line in files[0].read_text().splitlines() if line[0] != "#"]
        assert [line.split()[1:3] for line in lines[:3]] == [
            ["all", "postgres"],
            ["replication", "pgherd_replication"],
            ["postgres", "pgherd_rewind"],
        ]

    async def enters(server):
        try:
            where = f"host=127.0.0.1 port={server.port} user=app password=app dbname=postgres"
            await (await psycopg.AsyncConnection.connect(where)).close()
        except psycopg.OperationalError as error:
            if "pg_hba.conf" not in str(error):
                raise
            return False
        return True

    play(story())


def test_a_member_that_does_not_take_the_lines_says_so_and_goes_on(lab, play, hands_of):
    """Told while it runs, or met at a start: it runs with what it had, and the version failed."""
    bad = "host all all all trsut"

    async def story():
        server = await lab.primary("a")
        hands = hands_of(server)
        told = {"work_mem": "5MB"}
        await configuring.configure(hands, act.Configure(3, told, Access(hba=("# fine",))))
        assert (server.settings.version, hands.memory.config_failed) == (3, None)
        await configuring.configure(hands, act.Configure(4, told, Access(hba=(bad,))))
        assert hands.memory.config_failed.version == 4
        assert "trsut" in hands.memory.config_failed.why
        assert (server.settings.version, server.settings.access.hba) == (3, ("# fine",))

        await server.stop()
        hands.memory.config_failed = None
        newest = ConfigVersion(version=5, at_ms=0, author="", reason="", hba=(bad,))
        hands.config = lambda: newest
        assert (await configuring.start(hands)).accepting
        assert hands.memory.config_failed.version == 5
        assert "pgherd_hba.conf" in hands.memory.config_failed.why
        assert server.settings.access == Access()

    play(story())


def test_parameters_of_a_role_or_a_node_are_checked_as_they_come_to_be_in_force(lab, play):
    """Range and words as for all; a role's may need no restart; a node's with the others."""

    async def story():
        server = await lab.primary("a")

        async def says(**others):
            named = {name.replace("_", " "): some for name, some in others.items()}
            asked = ConfigAsked({"work_mem": "8MB"}, others=named)
            return await checking.check(server, asked)

        fine = await says(
            primary={"checkpoint_timeout": "9min"},
            replica={"work_mem": "1MB"},
            on_a={"shared_buffers": "64MB"},
        )
        assert fine.problems == ()
        assert fine.contexts["shared_buffers"] == "postmaster"
        [late] = (await says(primary={"shared_buffers": "64MB"})).problems
        assert "primary: shared_buffers needs a restart" in late
        [range_] = (await says(replica={"work_mem": "1kB"})).problems
        assert "replica: work_mem = 1kB is out of range" in range_
        [few] = (await checking.check(server, ConfigAsked({"max_connections": "5"}))).problems
        assert "max_connections = 5: 5 of them are reserved" in few
        [zone] = (await says(on_a={"log_timezone": "Mars/Olympus"})).problems
        assert "on a: PostgreSQL says" in zone

    play(story())
