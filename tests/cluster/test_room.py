"""A primary leaves a disk that fills before it is full; a full one ends no node for good."""

from __future__ import annotations

from typing import Any

import pytest
from filesystems import leave_free, small_disk

from pgherd.proof.herd import LocalHerd
from pgherd.proof.history import check
from pgherd.proof.writers import Writers, create_table, read_rows

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)

SMALL = "n1"
DISK_MB = 500
BALLAST_MB = 64
CHANGES = {
    "postgresql": {"ballast": f"{BALLAST_MB}MB"},
    "failover": {"minimum_interval": "5s"},
}


@pytest.mark.fault(40)
def test_a_disk_fills(stable: Any) -> None:
    """The primary hands over in time; with nothing left at all its server comes up again, by the
    ballast, and streams; once there is room the ballast is back. Nothing acknowledged is lost.
    """
    with (
        LocalHerd(3, witnesses=1, postgres_bin=stable.postgres_bin, overrides=CHANGES) as herd,
        small_disk(herd.places[SMALL].data.parent, size_mb=DISK_MB) as has_disk,
    ):
        if not has_disk:
            pytest.skip("no file system can be mounted here")
        [other] = set(herd.data) - {SMALL}
        place = herd.places[SMALL]
        ballast = place.data.with_name(f"{place.data.name}.ballast")
        filling = place.data.parent / "filling"
        herd.start()
        herd.wait_stable(90)
        if herd.wait_primary() != SMALL:
            herd.switchover(SMALL)
            herd.wait_stable(60)
        herd.wait_for(ballast.exists, "a ballast", deadline_s=20)
        assert ballast.stat().st_size == BALLAST_MB << 20
        create_table(herd.dsn_direct())
        with Writers(herd.dsn_direct()) as writers:
            writers.start()
            leave_free(filling, 40)
            herd.wait_for(lambda: herd.primary() == other, "the roomy one leads", deadline_s=40)
            herd.wait_stable(60)
            notes = [note["text"] for note in herd.ask("/history")["notes"]]
            assert any(f"asked for by pgherd: {SMALL} has less than 64 MB" in n for n in notes)
            leave_free(filling, 0)
            herd.kill_postmaster(SMALL)
            herd.wait_for(lambda: not ballast.exists(), "the ballast is given away", deadline_s=40)
            herd.wait_stable(60)
            assert herd.query(SMALL, "SELECT pg_is_in_recovery()") == [(True,)]
            herd.wait_for(
                lambda: any("no ballast is kept" in one for one in herd.status()["warnings"]),
                "word of the ballast that is lacking",
                deadline_s=20,
            )
            filling.unlink()
            herd.wait_for(ballast.exists, "a new ballast", deadline_s=30)
        verdict = check(writers.history(), read_rows(herd.dsn_node(other)))
        assert verdict.clean, str(verdict)
