"""Routes of certificates: a member's new one, signed by the cluster's authority.

Owns no key: who has the authority's signs, wherever this is asked. For members only; certificates
of people and programs are made on a data member by `pgherd pki issue`.
"""

from __future__ import annotations

from fastapi import APIRouter

from pgherd.api import rightsschema as schema
from pgherd.api.deps import AdminDep, ServicesDep
from pgherd.api.failures import Problem
from pgherd.api.reads import find
from pgherd.model.errors import OperatorError, PeerError
from pgherd.pki.authority import NODE_DAYS

router = APIRouter()


@router.post("/api/v1/pki/sign")
async def sign(services: ServicesDep, caller: AdminDep, body: schema.SignWanted) -> schema.Signed:
    """Sign a member's new key, for the names and addresses that the ledger knows it by."""
    member = find(services.herd.facts(), body.node)
    try:
        certificate, ca = await services.herd.sign(member.node, body.csr, body.days or NODE_DAYS)
    except (OperatorError, PeerError) as error:
        raise Problem(412, "not_signed", error.message, hint=error.hint) from error
    return schema.Signed(certificate=certificate, ca=ca)
