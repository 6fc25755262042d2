"""How long each kind of illness of a primary may go unnoticed, from the settings alone.

Pure. Owns the arithmetic that `pgherd config validate` prints and that checks settings against each
other. The times end when the Raft leader knows; a failover takes some tenths of a second more.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from pgherd.config.probing import TIMEOUT_MS_LEAST
from pgherd.config.settings import Settings
from pgherd.config.source import Path
from pgherd.config.units import format_duration
from pgherd.model.lease import TTL_ASYNC_MS, TTL_MS
from pgherd.model.pace import LOOK_MS, LOOP_MS, REPORT_MS, SUSPECT_LOOK_MS

PROBE = ("failover", "probe")


class Worst(msgspec.Struct, frozen=True):
    """Milliseconds until it is known that a primary's server died, hangs, cannot write, or that its
    whole node is silent."""

    dead_ms: int
    hung_ms: int
    writes_ms: int
    silent_ms: int

    def __str__(self) -> str:
        return (
            f"a server that died {_seconds(self.dead_ms)}, one that takes no connection"
            f" {_seconds(self.hung_ms)}, one that cannot write {_seconds(self.writes_ms)},"
            f" a node that is silent {_seconds(self.silent_ms)}"
        )


def worst_case(settings: Settings) -> Worst:
    """The longest times to detection while the network and the other nodes are well."""
    probe, detect = settings.failover.probe, settings.failover.detect_ms
    elections = 2 * settings.raft.election_timeout_ms
    stall = max(probe.write_stall_ms, between_looks_ms(probe.interval_ms))
    return Worst(
        dead_ms=LOOP_MS,
        hung_ms=between_probes_ms(probe.interval_ms) + patience_ms(settings) + LOOP_MS,
        writes_ms=between_looks_ms(probe.interval_ms) + stall + SUSPECT_LOOK_MS + LOOP_MS,
        silent_ms=max(detect + 2 * REPORT_MS, elections) + LOOP_MS,
    )


def look_ms(interval_ms: int) -> int:
    """How often a server is looked at while all is well: no less often than it is probed."""
    return min(LOOK_MS, interval_ms)


def between_looks_ms(interval_ms: int) -> int:
    """Looks come at whole multiples of their interval, after half of one at least."""
    return look_ms(interval_ms) * 3 // 2


def between_probes_ms(interval_ms: int) -> int:
    """A probe comes with the first look at which it is due."""
    late = between_looks_ms(interval_ms)
    return late if interval_ms <= LOOK_MS else interval_ms + late


def patience_ms(settings: Settings) -> int:
    """How long a server may answer no probe before it is called hung."""
    probe = settings.failover.probe
    return probe.failures * probe.timeout_ms


def problems(settings: Settings) -> Iterator[tuple[Path, str, str]]:
    """What does not fit together, with the value to change and to what."""
    yield from _too_soon(settings)
    yield from _too_late(settings)


def _too_soon(settings: Settings) -> Iterator[tuple[Path, str, str]]:
    """A stall that may not end a silent node's reign may not end it as a server's illness."""
    probe, detect = settings.failover.probe, settings.failover.detect_ms
    why = f"a stall shorter than failover.detect, {format_duration(detect)}, is no failure"
    if patience_ms(settings) < detect:
        timeout, failures = _up(detect, probe.failures), _up(detect, probe.timeout_ms)
        yield (
            (*PROBE, "timeout"),
            f"{format_duration(probe.timeout_ms)} and {probe.failures} failures are too little",
            f"timeout at least {format_duration(timeout)}, or failures at least {failures}: {why}",
        )
    if probe.write_stall_ms < detect:
        yield (
            (*PROBE, "write_stall"),
            f"{format_duration(probe.write_stall_ms)} is too little",
            f"at least {format_duration(detect)}: {why}",
        )


def _too_late(settings: Settings) -> Iterator[tuple[Path, str, str]]:
    """A hung primary has to be found before it would have lost its lease, had it been silent."""
    probe, wanted = settings.failover.probe, settings.failover.lease_ttl_ms
    auto = TTL_ASYNC_MS if settings.replication.mode == "async" else TTL_MS
    ttl = wanted if isinstance(wanted, int) else auto
    between, patience = between_probes_ms(probe.interval_ms), patience_ms(settings)
    if between + patience <= ttl:
        return
    room = ttl - between
    ways = [f"failover.lease_ttl at least {format_duration(between + patience)}"]
    if room >= probe.timeout_ms:
        ways.append(f"failures at most {room // probe.timeout_ms}")
    if room // probe.failures >= TIMEOUT_MS_LEAST:
        ways.append(f"timeout at most {format_duration(room // probe.failures)}")
    if room < 0 or probe.interval_ms > LOOK_MS:
        ways.append(f"interval at most {format_duration(LOOK_MS)}")
    yield (
        (*PROBE, "interval" if room < 0 else "timeout"),
        f"a server that hangs would be found after {format_duration(between + patience)}, and a"
        f" lease lasts {format_duration(ttl)}",
        " or ".join(ways),
    )


def _up(total: int, part: int) -> int:
    return -(-total // part)


def _seconds(ms: int) -> str:
    return f"{-(-ms // 100) / 10:.1f} s"
