"""What tests of every suite share: the counts that CI holds against its floors."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest


@pytest.fixture
def count() -> Callable[..., None]:
    """Add to the counts of this run (`name=number` lines in the file that PGHERD_COUNTS names)."""

    def add(**numbers: int) -> None:
        file = os.environ.get("PGHERD_COUNTS")
        if file:
            with open(file, "a", encoding="utf-8") as counts:
                counts.writelines(f"{name}={number}\n" for name, number in numbers.items())

    return add
