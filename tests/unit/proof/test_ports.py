"""Prove that ports are free when they are drawn, and nobody else's until they are let go."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pgherd.model.errors import OperatorError
from pgherd.proof.ports import HOST, claim_base, claim_ports


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        yield other.getsockname()[1]


def test_an_ordered_port_that_is_taken_is_named(taken: int) -> None:
    """The person is told which one, and what to type."""
    with pytest.raises(OperatorError, match=rf"port {taken} is in use \(choose others"):
        claim_ports(1, base=taken)


def test_a_preferred_port_that_is_taken_is_only_a_wish(taken: int) -> None:
    claim = claim_ports(1, preferred=taken)
    assert claim.blocks[0].base != taken
    claim.close()


def test_what_one_process_claims_no_other_draws() -> None:
    """Not while nobody listens on it either, and not its neighbour's half of a herd."""
    claim = claim_ports(2)
    first = claim.blocks[0].base
    elsewhere = (
        "from pgherd.proof.ports import claim_ports;"
        f"print(*[block.base for block in claim_ports(2, preferred={first + 10}).blocks])"
    )
    other = subprocess.run(
        [sys.executable, "-c", elsewhere], capture_output=True, text=True, check=True
    )
    drawn = {int(base) for base in other.stdout.split()}
    assert len(drawn) == 2
    assert not drawn & {block.base for block in claim.blocks}
    claim.close()
    with contextlib.closing(claim_ports(2, preferred=first)) as again:
        assert again.blocks[0].base == first


def test_a_block_for_ones_life_is_drawn_once() -> None:
    assert len({claim_base() for _ in range(20)}) == 20
