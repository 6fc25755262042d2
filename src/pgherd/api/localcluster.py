"""Routes of a cluster for development on this machine: make one, end one. Never this cluster.

Owns what is asked for and refused. The work is that of `pgherd cluster create` and `destroy`, in a
process of its own (`daemon.localrun`): what it starts outlives this daemon, not its service.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import PurePosixPath

import msgspec
from fastapi import APIRouter
from pydantic import AliasChoices, Field, field_validator

from pgherd.api.deps import AdminDep, Services, ServicesDep
from pgherd.api.failures import Problem
from pgherd.api.shape import Model

DIRECTORY = "/var/tmp/pgherd-local"
NAME = "local"
"""What every such cluster is called (`proof.layout`)."""
OPERATORS = 2
"""The exit code of what an operator has to mend."""

router = APIRouter()


class Ran(msgspec.Struct, frozen=True):
    """What a command line did."""

    code: int
    out: str
    err: str


Run = Callable[[list[str]], Awaitable[Ran]]
"""Run `pgherd` with these words, to its end."""


class LocalPlace(Model):
    """Where it is."""

    data_dir: str = Field(default=DIRECTORY, max_length=200)

    @field_validator("data_dir")
    @classmethod
    def _absolute(cls, value: str) -> str:
        path = PurePosixPath(value)
        if not path.is_absolute() or ".." in path.parts or not value.isprintable():
            raise ValueError("write a path from /")
        return value


class LocalWanted(LocalPlace):
    """How many nodes, where, and from which port on; null: whichever ports are free."""

    num_nodes: int = Field(
        default=3, ge=1, le=9, validation_alias=AliasChoices("num_nodes", "nodes")
    )
    base_port: int | None = Field(default=None, ge=1024, le=65000)


class LocalUnwanted(LocalPlace):
    """confirm: the name of the cluster that is to be deleted, with all that it holds."""

    confirm: str = Field(max_length=64)


class LocalMade(Model):
    """It runs. connect, ask: what to type for its primary, and for its state."""

    cluster_name: str
    data_dir: str
    nodes: int
    connect: str
    ask: str


class LocalGone(Model):
    """It is gone."""

    cluster_name: str
    data_dir: str


@router.post("/api/v1/cluster/create", status_code=201)
async def create(
    services: ServicesDep, caller: AdminDep, body: LocalWanted | None = None
) -> LocalMade:
    """Make a cluster for development on the machine of the node that is asked."""
    wanted = body or LocalWanted()
    words = ["create", "--nodes", str(wanted.num_nodes), "--dir", wanted.data_dir]
    words += ["--base-port", str(wanted.base_port)] if wanted.base_port is not None else []
    lines = await ran(services, words)
    return LocalMade(
        cluster_name=NAME,
        data_dir=wanted.data_dir,
        nodes=wanted.num_nodes,
        connect=lines[0] if lines else "",
        ask=lines[1] if len(lines) > 1 else "",
    )


@router.post("/api/v1/cluster/destroy")
@router.post("/cluster/destroy", operation_id="destroy_bare")
async def destroy(services: ServicesDep, caller: AdminDep, body: LocalUnwanted) -> LocalGone:
    """Stop such a cluster and delete all that it holds; the cluster that is asked stays."""
    if body.confirm != NAME:
        raise Problem(
            412,
            "not_confirmed",
            f"a cluster for development is called {NAME}, not {body.confirm}",
            hint=f'to delete all that it holds add {{"confirm": "{NAME}"}}',
        )
    await ran(services, ["destroy", "--yes", "--dir", body.data_dir])
    return LocalGone(cluster_name=NAME, data_dir=body.data_dir)


async def ran(services: Services, words: list[str]) -> list[str]:
    """What the command printed; a Problem with its own words where it refused."""
    if services.local is None:
        raise Problem(503, "unavailable", "this daemon makes no clusters for development")
    done = await services.local(["cluster", *words])
    if done.code == 0:
        return done.out.splitlines()
    said = " ".join(done.err.split())[-500:] or "it failed without a word"
    raise Problem(409 if done.code == OPERATORS else 503, "not_made", said)
