"""What the operator wants: the wishes and limits that the deciders weigh, as plain values."""

from __future__ import annotations

import msgspec


class FenceOrder(msgspec.Struct, frozen=True):
    """An operator's fencing command; required: without its success nobody is promoted."""

    command: tuple[str, ...]
    deadline_ms: int
    required: bool


class Policy(msgspec.Struct, frozen=True):
    """Limits in milliseconds, from the configuration; DESIGN.md 5 states the defaults.

    hold_timeout_ms: for a change of primary that was asked for, once its term has begun · hold_ms:
    for what runs at the primary before that, 0 = clients are not held · num_sync: 0 = auto, half of
    the data members rounded down · voter_timeout_ms: silence after which another member votes in a
    voter's place · lease_ttl_ms: 0 = auto, by the mode
    (`model.lease`) · max_lag_bytes: of WAL that a failover in mode async may leave behind · fence:
    what a winner runs against an earlier leader that is not sealed · min_free_disk_bytes: less room
    than this is none · disk_full_within_ms: a primary whose disk is full so soon hands over, 0 = it
    is not asked · slot_min_free_disk_bytes: with less room, unused slots of members are given up ·
    ignore_slots: names of slots that are left alone, whatever they are.
    """

    failover_enabled: bool = True
    detect_ms: int = 1500
    minimum_interval_ms: int = 30_000
    sync_timeout_ms: int = 3000
    start_timeout_ms: int = 300_000
    hold_timeout_ms: int = 10_000
    hold_ms: int = 10_000
    seal_grace_ms: int = 1000
    num_sync: int = 0
    admission_lag_bytes: int = 16 * 1024 * 1024
    stuck_after_ms: int = 20_000
    restart_in_place: bool = True
    voter_timeout_ms: int = 300_000
    lease_ttl_ms: int = 0
    max_lag_bytes: int = 16 * 1024 * 1024
    fence: FenceOrder | None = None
    min_free_disk_bytes: int = 0
    disk_full_within_ms: int = 0
    slot_min_free_disk_bytes: int = 0
    ignore_slots: tuple[str, ...] = ()
