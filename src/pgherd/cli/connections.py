"""`pgherd connections`: client sessions of one node's proxy, by server."""

from __future__ import annotations

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.output import Format, emit, line, table


@asking
def connections(common: Common) -> None:
    """Client sessions that the proxy of the node which answers has open, by server."""
    found = common.api().get("/connections")
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    if found["proxy_healthy"] is None:
        line(f"{found['node']} has no proxy, or it does not answer its agent")
        return
    held = f", {found['held']} held" if found["held"] else ""
    line(f"{found['node']}: {found['active_connections']} open{held}")
    table(("server", "sessions"), list(found["by_backend"].items()), color=common.color)


COMMANDS: dict[str, Command] = {"connections": connections}
