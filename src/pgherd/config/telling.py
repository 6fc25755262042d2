"""What a node tells about itself: log lines, reports of the cluster, and a port for metrics.

Owns the keys of `log` and `metrics`. What is told is `telemetry`'s and `daemon`'s.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import PlainValidator

from pgherd.config.fields import (
    Bytes,
    Change,
    FilePath,
    Host,
    Key,
    Millis,
    Port,
    parse_flag,
    parse_path,
)
from pgherd.config.problems import Wrong
from pgherd.config.section import Section

SYSLOG = Path("/dev/log")
JOURNAL = Path("/run/systemd/journal/socket")


def parse_socket(usual: Path, value: Any) -> Path | None:
    """A local socket: where it usually is, none, or a path."""
    if value is None:
        return None
    try:
        if isinstance(value, str) and "/" in value:
            return parse_path(value)
        return usual if parse_flag(value) else None
    except Wrong:
        hint = f"write true for {usual}, false, or a path"
        raise Wrong(f"{value!r} is no socket", hint) from None


class Log(Section):
    """What the daemon tells about itself."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Key(
            "Least important line told; for a while, without this file: pgherd log-level.",
            Change.LIVE,
        ),
    ] = "info"
    format: Annotated[Literal["text", "json"], Key("Form of a line.")] = "text"
    file: Annotated[
        FilePath | None,
        Key("File to append to; null: standard error, unless syslog or journal is set."),
    ] = None
    file_size_bytes: Annotated[
        Bytes,
        Key(
            "Size at which that file is renamed to .1, and a new one begun.",
            unit="size",
            least=1 << 16,
            why="smaller ones hold no story",
        ),
    ] = 64 << 20
    file_keep: Annotated[int, Key("Most files that were so renamed.", least=0, most=100)] = 5
    syslog: Annotated[
        Annotated[Path | None, PlainValidator(partial(parse_socket, SYSLOG))],
        Key("Local socket of syslog: true is /dev/log; null: lines do not go there."),
    ] = None
    journal: Annotated[
        Annotated[Path | None, PlainValidator(partial(parse_socket, JOURNAL))],
        Key(
            "Socket of systemd's journal: true is /run/systemd/journal/socket; null: lines do not"
            " go there by themselves (a service's standard error does)."
        ),
    ] = None
    report_interval_ms: Annotated[
        Millis,
        Key(
            "How often cluster.report is told: the primary, how every node is, connections and"
            " queries since the last one; 0s: never.",
            Change.LIVE,
            unit="duration",
            least=0,
            why="0s is never, else best 10s and more",
        ),
    ] = 30_000


class MetricsPort(Section):
    """A port for metrics alone, beside /metrics of the API."""

    port: Annotated[
        Port | None, Key("Port of a plain HTTP listener that serves /metrics and nothing else.")
    ] = None
    bind: Annotated[Host | None, Key("Address to bind; null: the API's.")] = None
