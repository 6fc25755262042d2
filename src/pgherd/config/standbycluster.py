"""The keys of `standby_cluster`: the primary in another site that a new cluster follows.

Read once, when the cluster is made; what it follows afterwards is the ledger's, and
`pgherd cluster promote|demote`'s to change.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, field_validator

from pgherd.config.fields import Key, join_host_port, split_host_port
from pgherd.config.problems import Wrong
from pgherd.config.section import Section
from pgherd.model.standbycluster import HOSTS_MAX

POSTGRES_PORT = 5432


def parse_host(value: object) -> str:
    """`host:port`, as it is written back; PostgreSQL's own port where none is said."""
    text = str(value).strip()
    bare = ":" not in text or text.endswith("]")
    host, port = split_host_port(f"{text}:{POSTGRES_PORT}" if bare else text)
    return join_host_port(host, port)


class StandbyCluster(Section):
    """Make the new cluster a standby cluster: it follows a remote primary until it is promoted."""

    hosts: Annotated[
        tuple[Annotated[str, BeforeValidator(parse_host)], ...],
        Key(
            "The remote primary as host:port; of several hosts the one that is primary is followed."
            " Its login is the one of postgresql.replication. Empty: the cluster is writable. Read"
            " once, when the cluster is made."
        ),
    ] = ()
    primary_slot_name: Annotated[
        str,
        Key("Physical replication slot there for the standby leader. Read once, like hosts."),
    ] = ""
    sslmode: Annotated[
        Literal["disable", "prefer", "require"],
        Key("TLS of that connection, as libpq has it. Read once, like hosts."),
    ] = "prefer"

    @field_validator("hosts", mode="after")
    @classmethod
    def _few(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(value) > HOSTS_MAX:
            raise Wrong(f"{len(value)} hosts are too many", f"name at most {HOSTS_MAX}")
        return value
