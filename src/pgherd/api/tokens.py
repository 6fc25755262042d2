"""Routes of the API's tokens and of the audit record.

A token is made here, shown once, and known to the ledger by its hash: so it counts on every node at
once. Owns what would lock people out. Tokens of a node's file are shown and never changed.
"""

from __future__ import annotations

import secrets
from typing import Annotated, cast

from fastapi import APIRouter, Depends, Path, Query, Response

from pgherd.api import rightsschema as schema
from pgherd.api.changes import current_facts, submit
from pgherd.api.deps import (
    AdminDep,
    ConsistentDep,
    Services,
    ServicesDep,
    admin_looks,
    operator_looks,
)
from pgherd.api.failures import Problem
from pgherd.api.times import iso, unix_ms_of
from pgherd.ledger.commands import MakeToken, RevokeToken
from pgherd.model.facts import Facts
from pgherd.model.rights import AUDIT_MAX, KeptToken, Role
from pgherd.pki.token import hash_secret, new_secret

PREFIX = "pgherd_"
"""How a token begins, so that people and scanners of secrets recognise one."""

AUDIT_LIMIT = 50
Word = Annotated[str, Path(max_length=64)]

router = APIRouter()


@router.get("/api/v1/tokens", dependencies=[Depends(admin_looks)])
async def every(services: ServicesDep, seen: ConsistentDep) -> schema.Tokens:
    """All tokens, without the tokens themselves."""
    own = [
        schema.Token(id=None, name=one.name, role=cast(schema.RoleWord, one.role.word))
        for one in services.guard.of_file()
    ]
    kept = [shown(one, services) for one in seen.facts.rights.tokens]
    return schema.Tokens(node=seen.me, tokens=[*own, *kept])


@router.post("/api/v1/tokens", status_code=201)
async def make(
    services: ServicesDep, caller: AdminDep, response: Response, body: schema.TokenWanted
) -> schema.TokenMade:
    """Make a token; this answer is the only place where it is seen."""
    facts, role, now_ms = await current_facts(services), Role[body.role.upper()], unix_ms(services)
    if services.guard.is_open() and role is not Role.ADMIN:
        raise Problem(
            412,
            "no_admin",
            "the first token has to be an admin's, or nobody could make another",
            hint="pgherd token create --role admin",
        )
    token_id, text = secrets.token_hex(4), PREFIX + new_secret()
    made = KeptToken(
        id=token_id,
        name=body.name or f"{body.role}-{token_id}",
        role=role,
        sha256=hash_secret(text),
        author=str(caller),
        made_at_ms=now_ms,
        ends_at_ms=unix_ms_of(body.ttl, now_ms=now_ms),
    )
    if any(one.name == made.name for one in services.guard.of_file()):
        raise name_taken(made.name)
    if any(one.name == made.name and not one.is_over(now_ms) for one in facts.rights.tokens):
        raise name_taken(made.name)
    await submit(
        services,
        MakeToken(made.id, made.name, made.role, made.sha256, made.author, made.ends_at_ms),
    )
    response.headers["Cache-Control"] = "no-store"
    return schema.TokenMade(**shown(made, services).model_dump(), token=text)


@router.delete("/api/v1/tokens/{token}")
async def revoke(services: ServicesDep, caller: AdminDep, token: Word) -> schema.Token:
    """Take a token's rights away, by id or name; it counts nowhere any more."""
    facts = await current_facts(services)
    found = facts.rights.token(token)
    if found is None:
        if any(one.name == token for one in services.guard.of_file()):
            text = f"{token} is of this node's file, and stays until it is removed there"
            raise Problem(412, "of_file", text, hint="remove it from api.tokens, then reload")
        raise Problem(404, "unknown_token", f"there is no token {token}", hint="pgherd token list")
    refuse_last_admin(services, facts, found)
    await submit(services, RevokeToken(found.id, str(caller)))
    return shown(found, services)


def refuse_last_admin(services: Services, facts: Facts, leaving: KeptToken) -> None:
    """Without any token everybody could do everything; without an admin's nobody could."""
    now_ms = unix_ms(services)
    others = [one for one in facts.rights.tokens if one.id != leaving.id]
    lasts = any(one.role is Role.ADMIN and not one.is_over(now_ms) for one in others)
    if leaving.role is Role.ADMIN and not lasts and not services.guard.has_admin():
        raise Problem(
            412,
            "last_admin",
            f"{leaving.name} is the last admin's token",
            hint="make another first: pgherd token create --role admin",
        )


@router.get("/api/v1/audit", dependencies=[Depends(operator_looks)])
async def audit(
    seen: ConsistentDep,
    limit: Annotated[int, Query(ge=1, le=AUDIT_MAX)] = AUDIT_LIMIT,
    who: Annotated[str | None, Query(max_length=64, description="Only of this name.")] = None,
) -> schema.Audit:
    """Who asked for which change, and what became of it."""
    found = [one for one in reversed(seen.facts.rights.audit) if who in (None, one.who)]
    return schema.Audit(
        audit=[
            schema.AuditRecord(
                at=iso(one.at_ms),
                who=one.who,
                address=one.address,
                node=one.node,
                what=one.what,
                status=one.status,
                result=one.code or ("done" if one.status < 400 else "failed"),
                request_id=one.request,
            )
            for one in found[:limit]
        ]
    )


def shown(one: KeptToken, services: Services) -> schema.Token:
    return schema.Token(
        id=one.id,
        name=one.name,
        role=cast(schema.RoleWord, one.role.word),
        made_at=iso(one.made_at_ms),
        made_by=one.author,
        expires_at=iso(one.ends_at_ms) if one.ends_at_ms else None,
        is_expired=one.is_over(unix_ms(services)),
    )


def unix_ms(services: Services) -> int:
    return int(services.unix_s() * 1000)


def name_taken(name: str) -> Problem:
    text = f"there is a token {name} already"
    return Problem(409, "name_taken", text, hint="choose another --name, see: pgherd token list")
