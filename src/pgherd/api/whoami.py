"""Who the API takes a caller for, and what that caller may do: for programs that offer choices."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends

from pgherd.api.deps import ServicesDep, viewer
from pgherd.api.guard import Caller
from pgherd.api.shape import Model, NodeName

router = APIRouter()


class Known(Model):
    """The caller, as the node that answers knows it.

    has_rights: whether anybody was ever given a right; without that everybody has all.
    """

    name: str
    role: Literal["viewer", "operator", "admin"]
    node: NodeName
    has_rights: bool


@router.get("/api/v1/whoami")
async def whoami(services: ServicesDep, caller: Annotated[Caller, Depends(viewer)]) -> Known:
    """Who you are, and which role you have; 401 for a token that is not known."""
    return Known(
        name=caller.name,
        role=caller.role.word,  # type: ignore[arg-type] # one of the three
        node=services.herd.node,
        has_rights=not services.guard.is_open(),
    )
