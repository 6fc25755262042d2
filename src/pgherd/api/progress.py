"""The route that says how far what takes long has come."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from pgherd.api import repairing, views
from pgherd.api import repairschema as schema
from pgherd.api.deps import SeenDep, viewer

router = APIRouter()


@router.get("/api/v1/progress", dependencies=[Depends(viewer)])
async def all_progress(seen: SeenDep) -> schema.ProgressList:
    """Copies, rewinds and recoveries that are under way on any node that is heard."""
    return schema.ProgressList(progress=repairing.progress(views.fresh_reports(seen)))
