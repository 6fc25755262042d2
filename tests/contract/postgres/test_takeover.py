"""Servers and directories of somebody else's on real PostgreSQL: taken over, or restored."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from pgherd.act.following import init_db
from pgherd.act.hands import Hands
from pgherd.model import action as act
from pgherd.model.errors import OperatorError, PostgresError
from pgherd.model.ids import NodeId, Term
from pgherd.model.promises import Promises
from pgherd.postgres import bootstrap, clone, conf, pgcontrol, strangers, takeover
from pgherd.postgres.datadir import DirKind
from pgherd.postgres.memory import ServerMemory
from pgherd.postgres.server import PostgresServer
from pgherd.postgres.settings import Place
from pgherd.postgres.tools import as_user, clean_environment

pytestmark = pytest.mark.cluster


def like_debian(lab, server: PostgresServer) -> Path:
    """Move a directory's configuration to where Debian has it, and start it there by hand."""
    etc = lab.base / "etc" / str(lab.binaries.major) / "main"
    (etc / "conf.d").mkdir(parents=True)
    for name in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        shutil.move(server.data_dir / name, etc / name)
    (etc / "start.conf").write_text("auto\n")
    (etc / "conf.d" / "own.conf").write_text("work_mem = '7MB'\n")
    with (etc / "postgresql.conf").open("a") as file:
        file.write(
            f"data_directory = '{server.data_dir}'\nhba_file = '{etc}/pg_hba.conf'\n"
            f"ident_file = '{etc}/pg_ident.conf'\ninclude_dir = 'conf.d'\nport = {server.port}\n"
            f"unix_socket_directories = '{server.socket_dir}'   # Debian's\n"
        )
    for path in (lab.base / "etc").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return etc / "postgresql.conf"


def run(lab, program: str, *words: object) -> None:
    subprocess.run(
        [lab.binaries.program(program), *map(str, words)],
        check=True,
        capture_output=True,
        timeout=60,
        env=clean_environment(),
        cwd="/",
        stdin=subprocess.DEVNULL,
        **as_user(lab.user),
    )


def texts(folder: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_debian_server_is_entered_while_it_runs(lab, play, monkeypatch):
    """It is reloaded, entered, put back where it does not take it; then stopped, and ours."""
    server = lab.server("a")

    async def story():
        await server.initdb("a00001")
        config = like_debian(lab, server)
        server.socket_dir.mkdir(exist_ok=True)
        if lab.user is not None:
            os.chown(server.socket_dir, lab.user.uid, lab.user.gid)
        log = server.data_dir.parent / "log.txt"
        run(lab, "pg_ctl", "start", "-w", "-D", server.data_dir, "-l", log, "-o",
            f"-c config_file={config}")  # fmt: skip
        stranger = strangers.look(server.data_dir, debian=lab.base / "etc")
        assert (stranger.config, stranger.debian) == (config, f"{lab.binaries.major}/main")
        assert stranger.files()[0] == config.parent / "pg_hba.conf"
        answers = strangers.ask(stranger, superuser="postgres", database="postgres")
        assert (answers.in_recovery, answers.settings["wal_level"]) == (False, "replica")
        assert answers.slots == ()
        assert strangers.programs_of(stranger.pid) == str(lab.binaries.bin_dir)
        with pytest.raises(OperatorError, match="cannot log in as nobody"):
            strangers.ask(stranger, superuser="nobody", database="postgres")
        before = texts(config.parent)
        place = Place(str(server.data_dir), server.port, str(server.socket_dir))
        wrong = msgspec.structs.replace(server.settings, superuser="nobody")
        monkeypatch.setattr(takeover, "TAKES_S", 1.0)
        with pytest.raises(OperatorError, match="it is as it was"):
            await takeover.in_place(stranger, wrong, place, names="", user=lab.user)
        assert texts(config.parent) == before
        monkeypatch.undo()
        kept = lab.base / "kept"
        takeover.keep(stranger, kept)
        takeover.bring_home(stranger, lab.user)
        await takeover.in_place(stranger, server.settings, place, names="", user=lab.user)
        assert (kept / "pg_hba.conf").read_text() == before[str(config.parent / "pg_hba.conf")]
        run(lab, "pg_ctl", "restart", "-w", "-D", server.data_dir, "-l", log)
        assert await server.adopt()
        assert (await server.look()).settings_problem == ""
        await server.acting.rows("CREATE TABLE public.old AS SELECT 7 AS n")
        assert await server.close_gate() == 0
        takeover.never_start(stranger)
        takeover.keep(stranger, kept)
        assert (kept / "start.conf").read_text() == "auto\n"
        takeover.stop(strangers.look(server.data_dir, debian=lab.base / "etc"))
        await server.close()
        assert (await server.state()).clean
        assert (config.parent / "start.conf").read_text() == "disabled\n"
        await server.start()
        rows = await server.watching.rows("SELECT n, current_setting('work_mem') FROM public.old")
        assert rows == [(7, "7MB")]

    play(story())


def test_a_backup_is_restored_to_its_target(lab, play):
    """The operator's command leaves a recovery.signal: what came after the target is not there."""
    source, server = lab.server("a"), lab.server("b")

    async def story():
        await source.initdb("a00001")
        await source.start()
        await source.promote()
        await source.write_epoch(Term(57), NodeId("a"))
        await source.ensure_roles()
        conf.write_passfile(source.settings, user=lab.user)
        side = await clone.basebackup(
            source.data_dir,
            binaries=lab.binaries,
            user=lab.user,
            conninfo=source.upstream(host="127.0.0.1", port=source.port, token="copy"),
            incarnation="c00001",
        )
        await source.acting.rows("CREATE TABLE public.kept AS SELECT 1 AS n")
        await source.acting.rows("SELECT pg_create_restore_point('here')")
        await source.acting.rows("INSERT INTO public.kept VALUES (2)")
        await source.acting.rows("SELECT pg_switch_wal()")
        told = (
            f"restore_command = 'cp {source.data_dir}/pg_wal/%f %p'",
            "recovery_target_name = 'here'",
        )
        script = "\n".join(
            [
                f'set -e; cp -a {side}/. "$1"; touch "$1"/recovery.signal',
                f'cat >> "$1"/{conf.AUTO_CONF} <<END',
                *told,
                "END",
            ]
        )
        command = ("/bin/sh", "-c", script, "restore")
        server.settings = msgspec.structs.replace(server.settings, bootstrap=command)
        saved: list[Promises] = [Promises()]

        async def save(promises: Promises) -> None:
            saved.append(promises)

        hands = Hands(
            me=NodeId("b"),
            server=server,
            memory=ServerMemory(),
            promises=lambda: saved[-1],
            save=save,
            history=tuple,
            new_incarnation=lambda: "b00001",
            progress=print,
            submit=save,  # type: ignore[arg-type] # never asked
        )
        await init_db(hands, act.InitDb())
        assert saved[-1].incarnation == "b00001"
        state = await server.state()
        assert (state.kind, state.clean, state.incarnation) == (DirKind.STOPPED, True, "b00001")
        await server.start()
        assert await server.watching.rows("SELECT n FROM public.kept") == [(1,)]
        assert (await server.look()).epoch == 57
        assert [path.name for path in server.data_dir.parent.glob("data.side-*")] == []

    play(story())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("/bin/sh", "-c", "echo no such backup >&2; exit 3"), "no such backup"),
        (("/bin/sh", "-c", "true"), "left none"),
        (("/nonexistent/restore",), "cannot run"),
    ],
)
def test_a_command_that_fails_leaves_nothing(lab, play, command, said):
    """Its words are the reason, the place stays free, and nothing lies beside it."""
    server = lab.server("a", bootstrap=command)

    async def story():
        with pytest.raises(PostgresError, match=said):
            await bootstrap.make(server, "a00001")
        assert (await server.state()).kind is DirKind.NONE
        assert list(server.data_dir.parent.glob("data*")) == []

    play(story())


def test_another_clusters_directory_is_kept_whole(lab, play):
    """A copy takes its place; it is renamed, none of its files are taken over, none is removed."""
    primary, server = lab.server("a"), lab.server("b")

    async def story():
        await primary.initdb("a00001")
        await primary.start()
        await primary.promote()
        await primary.write_epoch(Term(1), NodeId("a"))
        await primary.ensure_roles()
        await server.initdb("b00001")
        foreign = (await server.state()).control
        assert foreign is not None
        with (server.data_dir / "postgresql.conf").open("a") as file:
            file.write("work_mem = '7MB'\n")
        for place in ("data.old-1", "data.old-2"):
            swapped = await lab.copy(server, primary, "b00002")
            assert swapped.kept == server.data_dir.with_name(place)
        kept = server.data_dir.with_name("data.old-1")
        assert swapped.removed == ()
        control = await pgcontrol.read(lab.binaries.bin_dir, kept, user=lab.user)
        assert (control.system_id, control.clean) == (foreign.system_id, True)
        assert "7MB" in (kept / "postgresql.conf").read_text()
        assert "7MB" not in (server.data_dir / "postgresql.conf").read_text()
        assert (await server.state()).control.system_id != foreign.system_id

    play(story())
