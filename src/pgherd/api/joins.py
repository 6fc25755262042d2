"""The routes of `pgherd join`: the CA certificate, and the one that admits. Open, but limited.

The CA's certificate is public; the join itself is protected by the token's secret, sent only over
TLS pinned to that CA. Five tries a minute from one address. Leaves the decision to the port.
"""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response

from pgherd.api import schema
from pgherd.api.deps import ServicesDep
from pgherd.api.failures import Problem
from pgherd.api.guard import Caller, Role, client_address
from pgherd.api.herd import JoinRequest

PEM_TYPE = "application/x-pem-file"

router = APIRouter()


@router.get("/join/ca", operation_id="join_ca_short")
@router.get("/api/v1/join/ca", operation_id="join_ca")
async def ca(services: ServicesDep) -> Response:
    """The certificate of the cluster's authority, for comparing with the token's hash."""
    pem = services.ca_pem()
    if pem is None:
        raise Problem(404, "no_authority", "this node has no certificate authority")
    return Response(pem, media_type=PEM_TYPE)


@router.post("/join", operation_id="join_short")
@router.post("/api/v1/join", operation_id="join")
async def join(services: ServicesDep, request: Request, body: schema.JoinBody) -> Response:
    """Admit a node: sign its key, add it to the members, give it what all share."""
    services.joins.check(client_address(request))
    try:
        asked = msgspec.convert(body.model_dump(), JoinRequest, strict=True)
    except msgspec.ValidationError as error:
        raise Problem(422, "invalid", str(error)) from error
    answer = await services.herd.join(asked)
    request.state.caller = Caller(
        f"join token {asked.token_id}", Role.VIEWER, client_address(request)
    )
    return Response(
        msgspec.json.encode(answer),
        media_type="application/json",
        headers={"Cache-Control": "no-store"},
    )
