"""What a node can be for, as `pgherd config generate --for` takes it; apart, to cost no time."""

from __future__ import annotations

from enum import StrEnum


class Purpose(StrEnum):
    """What a node is for."""

    PROD = "prod"
    DEV = "dev"
    WITNESS = "witness"
