"""Commands about tokens and the audit record: `token create|list|revoke`, `audit`.

Owns their wording. A token is shown once, on standard output; the API made it and forgot it.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.changing import YesOption, agree, tell
from pgherd.cli.output import Format, emit, line, say, table
from pgherd.model.errors import OperatorError

PATH = "/api/v1/tokens"
ROLES = ("viewer", "operator", "admin")


@asking
def create(
    common: Common,
    for_join: Annotated[bool, typer.Option("--join", help="Once, for pgherd join.")] = False,
    role: Annotated[
        str | None, typer.Option("--role", help="For the API: viewer, operator or admin.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Whose it is; stands in the audit record.")
    ] = None,
    ttl: Annotated[
        str | None,
        typer.Option("--ttl", help="How long it is good for; 1h with --join, else for ever."),
    ] = None,
) -> None:
    """Make a token: for one node to join, or for the API with a role."""
    if for_join == (role is not None):
        raise OperatorError(
            "say what the token is for",
            "pgherd token create --join; or: pgherd token create --role operator",
        )
    if role is not None:
        for_api(common, role=role, name=name, ttl=ttl)
    else:
        for_a_node(common, ttl or "1h")


def for_a_node(common: Common, ttl: str) -> None:
    from pgherd.config.units import parse_duration_ms

    try:
        seconds = parse_duration_ms(ttl) // 1000
    except ValueError as error:
        raise OperatorError(f"--ttl: {error}", "as in --ttl 1h") from error
    found = common.api().post(f"{PATH}/join", {"ttl_seconds": seconds})
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(found["token"])
    say(f"good once, until {found['expires_at']}")
    say("  next, on the new machine: pgherd join --name NAME --token TOKEN --start")


def for_api(common: Common, *, role: str, name: str | None, ttl: str | None) -> None:
    if role not in ROLES:
        raise OperatorError(f"{role} is no role", f"one of: {', '.join(ROLES)}")
    found = common.api().post(PATH, {"role": role, "name": name, "ttl": ttl})
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    line(found["token"])
    until = f"until {found['expires_at']}" if found["expires_at"] else "until it is revoked"
    say(f"{found['name']} ({found['role']}), on every node, {until}; it is not shown again")
    say(f"  next: PGHERD_TOKEN=TOKEN pgherd status; to end it: pgherd token revoke {found['name']}")


@asking
def every(common: Common) -> None:
    """All tokens of the API, without the tokens themselves."""
    found = common.api().get(PATH)
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    columns = ("id", "name", "role", "made", "by", "expires", "expired")
    keys = ("id", "name", "role", "made_at", "made_by", "expires_at", "is_expired")
    rows = [tuple(one[key] for key in keys) for one in found["tokens"]]
    table(columns, rows, color=common.color)
    if any(one["id"] is None for one in found["tokens"]):
        say(f"those without id are of {found['node']}'s file: api.tokens")


@asking
def revoke(
    common: Common,
    token: Annotated[str, typer.Argument(help="Its id or name, from pgherd token list.")],
    yes: YesOption = False,
) -> None:
    """Make a token worth nothing, on every node at once."""
    say(f"plan: {token} is refused from now on, on every node")
    agree(yes)
    found = common.api().call("DELETE", f"{PATH}/{quote(token, safe='')}")
    tell(common, found, f"{found['name']} ({found['role']}) is revoked")


@asking
def audit(
    common: Common,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=300)] = 50,
    who: Annotated[str | None, typer.Option("--who", help="Only of this token's name.")] = None,
) -> None:
    """Who asked for which change, from where, and what became of it; the newest first."""
    more: dict[str, Any] = {"who": who} if who is not None else {}
    found = common.api().get("/api/v1/audit", limit=limit, **more)
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    columns = ("at", "who", "from", "node", "what", "status", "result", "request")
    keys = ("at", "who", "address", "node", "what", "status", "result", "request_id")
    rows = [tuple(one[key] for key in keys) for one in found["audit"]]
    table(columns, rows, color=common.color)


TOKEN_COMMANDS: dict[str, Command] = {"create": create, "list": every, "revoke": revoke}
COMMANDS: dict[str, Command] = {"audit": audit}
