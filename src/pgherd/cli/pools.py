"""`pgherd pools`: server connections that one node's proxy lends by the transaction."""

from __future__ import annotations

from typing import Any

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.output import Format, emit, line, table

COLUMNS = (
    *("database", "user", "server", "clients", "waiting", "longest wait"),
    *("servers", "idle", "of", "refused", "paused"),
)


@asking
def pools(common: Common) -> None:
    """Server connections that the proxy of the node which answers lends by the transaction."""
    found = common.api().get("/api/v1/proxy/pools")
    if common.output is not Format.TABLE:
        emit(found, common.output)
        return
    if found["proxy_healthy"] is None:
        line(f"{found['node']} has no proxy, or it does not answer its agent")
        return
    if not found["pools"]:
        line(f"{found['node']}: no client uses a listener with pool: transaction")
        return
    table(COLUMNS, [row(pool) for pool in found["pools"]], color=common.color)


def row(pool: dict[str, Any]) -> tuple[Any, ...]:
    """One pool in a line. clients: those that have a server now."""
    states = ("active", "idle", "opening", "resetting")
    most = pool["size"] * pool["pools"]
    return (
        *(pool[name] for name in ("database", "user", "server", "clients_active")),
        pool["clients_waiting"],
        f"{pool['longest_wait_ms'] / 1000:.1f} s" if pool["clients_waiting"] else "",
        sum(pool[f"servers_{state}"] for state in states),
        pool["servers_idle"],
        f"{most} + {pool['reserve'] * pool['pools']}" if pool["reserve"] else most,
        pool["refused"],
        pool["is_paused"],
    )


COMMANDS: dict[str, Command] = {"pools": pools}
