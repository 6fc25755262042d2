"""Exchanging a part of the program for another one while a run lasts: how errors are planted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def attribute(where: object, name: str, value: object) -> Iterator[None]:
    old = getattr(where, name)
    setattr(where, name, value)
    try:
        yield
    finally:
        setattr(where, name, old)


@contextmanager
def item(where: dict[Any, Any], key: object, value: object) -> Iterator[None]:
    old = where[key]
    where[key] = value
    try:
        yield
    finally:
        where[key] = old
