"""How a copy of a data directory is made: by the operator's command, else by pg_basebackup.

Owns the order of the means and what a copy must be, whoever made it: of this cluster and of this
major version. Whom to copy is the plan's, the swap `following`'s.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import msgspec

from pgherd.act.hands import Hands, log
from pgherd.model import action as act
from pgherd.model.errors import PostgresError
from pgherd.postgres import clone, datadir, pgcontrol
from pgherd.postgres.files import read_text
from pgherd.postgres.settings import conninfo
from pgherd.postgres.syncing import sync_tree
from pgherd.postgres.tools import run_tool

COMMAND_S_MAX = 86_400.0


class Made(msgspec.Struct, frozen=True):
    """A complete copy beside the data directory. by_command: its WAL may be of any time."""

    side: Path
    by_command: bool = False


async def make(hands: Hands, a: act.Rebuild, incarnation: str) -> Made:
    """A copy that only has to be swapped in. A command that fails is not the end of it."""
    source = conninfo(
        hands.server.settings,
        host=a.host,
        port=a.port,
        application_name=f"pgherd-clone-{hands.me}",
        role=hands.server.settings.replication_role,
    )
    if a.by_command and hands.cloning.command:
        try:
            return await _by_command(hands, a, incarnation, source)
        except PostgresError as error:
            log.warning("clone.command_failed", reason=error.message, goes_on="pg_basebackup")
    rate = hands.cloning.max_rate_bytes
    side = await clone.basebackup(
        hands.server.data_dir,
        binaries=hands.server.binaries,
        user=hands.server.user,
        conninfo=source,
        incarnation=incarnation,
        max_rate=f"{rate >> 10}k" if rate else None,
        on_progress=hands.progress,
    )
    await _checked(hands, a, side)
    return Made(side)


async def _by_command(hands: Hands, a: act.Rebuild, incarnation: str, source: str) -> Made:
    server = hands.server
    side = await asyncio.to_thread(datadir.make_side, server.data_dir, server.user)
    told = {
        "PGHERD_CLONE_DIRECTORY": str(side),
        "PGHERD_CLONE_SOURCE": source,
        "PGHERD_CLONE_NODE": str(a.source or a.leader.node),
    }
    command = hands.cloning.command
    log.info("clone.command", program=command[0], directory=str(side))
    try:
        result = await run_tool(
            [*command, *told.values()], user=server.user, timeout_s=COMMAND_S_MAX, variables=told
        )
        if result.code != 0:
            raise PostgresError(f"{command[0]}: exit code {result.code}: {result.last_words()}")
        await _checked(hands, a, side)
        await asyncio.to_thread(
            clone.make_own, side, server.data_dir, incarnation, user=server.user
        )
        await asyncio.to_thread(sync_tree, side)
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, side, ignore_errors=True)
        raise
    hands.commanded()
    return Made(side, by_command=True)


async def _checked(hands: Hands, a: act.Rebuild, side: Path) -> None:
    """Raise PostgresError for a copy that is none of this cluster; it is removed."""
    server = hands.server
    try:
        major = read_text(side / "PG_VERSION").strip()
        if major != str(server.binaries.major):
            has = f"PostgreSQL {major}" if major else "no data directory"
            raise PostgresError(f"the copy is {has}, not of {server.binaries.major}")
        control = await pgcontrol.read(server.binaries.bin_dir, side, user=server.user)
        if a.system_id and control.system_id != a.system_id:
            raise PostgresError(
                f"the copy is of cluster {control.system_id}, this one is {a.system_id}: see who"
                f" listens at {a.host}:{a.port}"
            )
    except BaseException:
        await asyncio.to_thread(shutil.rmtree, side, ignore_errors=True)
        raise
