"""Minor upgrades of PostgreSQL: rolled out by one command, stopped where a server stays away."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from checkups import until_red
from minorbuild import Installation
from tending import done, ended, typed

from pgherd.proof import layout
from pgherd.proof.client import NoAnswer
from pgherd.proof.herd import LocalHerd
from pgherd.proof.trials import judge
from pgherd.proof.writers import Writers, create_table


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that PostgreSQL's user reaches."""
    directory = Path(tempfile.mkdtemp(prefix="pgherd-minor-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def pgherd(herd: LocalHerd, *words: str, code: int = 0) -> str:
    """What a command says."""
    found = typed(herd, herd.nodes[0], *words)
    assert found.returncode == code, found
    return found.stdout + found.stderr


def told(herd: LocalHerd, name: str) -> tuple[str, str]:
    """What runs on a node, and what is on its disk, as the API shows it."""
    node: dict[str, Any] = herd.ask(f"/nodes/{name}")
    return node["postgresql_version"], node["postgresql_version_on_disk"]


def runs(herd: LocalHerd, name: str) -> tuple[str, str]:
    """What a server itself says, and the program that its process is."""
    [(version,)] = herd.query(name, "SELECT current_setting('server_version_num')")
    number = int(version)
    exe = os.readlink(f"/proc/{herd.postmaster_pid(name)}/exe")
    return f"{number // 10_000}.{number % 10_000}", exe


@pytest.mark.parametrize(
    "stable", ["wheel-18", pytest.param("debian-15", marks=pytest.mark.full)], indirect=True
)
def test_a_newer_minor_version_is_rolled_out(stable: Any, open_dir: Path) -> None:
    """Every server is the new program in the end, restarted once; the writers lose nothing.

    Nothing newer, and then another major, are refused before; a library that the primary loads and
    that is gone from the disk is told before a restart needs it.
    """
    installed = Installation(stable.postgres_bin, open_dir / "programs")
    with LocalHerd(3, postgres_bin=installed.bin) as herd:
        herd.start()
        first = herd.wait_primary()
        herd.wait_stable(90)
        old = installed.version
        herd.wait_for(lambda: told(herd, first) == (old, old), "its version", deadline_s=30)
        assert "nothing newer is installed" in pgherd(herd, "upgrade", "minor", "-y", code=3)

        create_table(herd.dsn_proxy())
        pids = {name: herd.postmaster_pid(name) for name in herd.nodes}
        new = installed.install_next()
        herd.wait_for(
            lambda: all(told(herd, name) == (old, new) for name in herd.nodes),
            "the newer version",
            deadline_s=30,
        )
        assert f"({old} -> {new})" in "".join(herd.status()["warnings"])
        until_red(herd, first, ("herd.postgres_outdated", ""))
        plan = pgherd(herd, "upgrade", "minor", "--dry-run")
        assert plan.splitlines()[0].endswith(f", then {first}"), plan
        assert {name: herd.postmaster_pid(name) for name in herd.nodes} == pids
        with Writers(herd.dsn_proxy(), count=2) as writers:
            writers.start()
            said = pgherd(herd, "upgrade", "minor", "--yes")
            assert "minor upgrade of" in said
            assert "done" in said
            history = writers.stop()
        for name in herd.nodes:
            assert runs(herd, name) == (new, str(installed.bin / "postgres"))
        herd.wait_for(
            lambda: all(told(herd, name) == (new, new) for name in herd.nodes),
            "the new version of every server",
            deadline_s=30,
        )
        assert herd.primary() != first
        assert herd.ask("/actions")["actions"][-1]["finished"][-1] == first
        verdict = judge(herd, history)
        assert verdict.clean, str(verdict)
        assert verdict.acknowledged > 20


def lead(herd: LocalHerd, name: str) -> None:
    herd.switchover(name)
    herd.wait_for(lambda: herd.primary() == name, f"that {name} leads", deadline_s=40)
    herd.wait_stable(60)


def mismatches(herd: LocalHerd) -> str:
    return "\n".join(herd.ask("/cluster/health")["mismatches"])


def must_tell_what_lacks(herd: LocalHerd, first: str, installed: Installation) -> None:
    """On n2, in whose installation it is removed while its server runs."""
    root = installed.bin.parent
    control = root / "share" / "extension" / "amcheck.control"
    library = root / "lib" / "auto_explain.so"
    texts = {path: path.read_bytes() for path in (control, library)}
    for path in texts:
        path.unlink()
    [third] = set(herd.nodes) - {first, "n2"}
    herd.query(first, "CREATE EXTENSION amcheck")
    lead(herd, third)  # who begins to lead looks at the extensions at once
    words = f"n2: it has not the extension amcheck, which databases of {third} use"
    herd.wait_for(lambda: words in mismatches(herd), words, deadline_s=40)
    assert words in "".join(herd.status()["warnings"])
    until_red(herd, first, ("herd.libraries", ""))

    load = {"postgresql": {"parameters": {"shared_preload_libraries": "auto_explain"}}}
    herd.ask("/config?wait=20", method="PATCH", body=load, timeout_s=30)
    words = "n2: its server would not start again without auto_explain"
    herd.wait_for(lambda: words in mismatches(herd), words, deadline_s=40)
    with pytest.raises(NoAnswer, match="would not start again"):
        herd.ask("/cluster/upgrade/minor", method="POST", body={"force": True}, timeout_s=15.0)

    for path, data in texts.items():
        path.write_bytes(data)
        path.chmod(0o644)
    load["postgresql"]["parameters"] = {"shared_preload_libraries": None}
    herd.ask("/config?wait=20", method="PATCH", body=load, timeout_s=30)
    herd.query(third, "DROP EXTENSION amcheck")
    lead(herd, first)
    herd.wait_for(lambda: not mismatches(herd), "nothing amiss", deadline_s=60)


@pytest.mark.full
@pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)
def test_a_server_that_stays_away_ends_the_upgrade(stable: Any, open_dir: Path) -> None:
    """The others keep what they have, the primary leads on, and the reason is told.

    Before that an extension and a library, which the primary has, are taken away where n2 runs, and
    it runs a newer minor version than the others for a while.
    """
    broken = Installation(stable.postgres_bin, open_dir / "one" / "programs")
    whole = Installation(stable.postgres_bin, open_dir / "two" / "programs")
    overrides = {"failover": {"start_timeout": "10s"}}
    with LocalHerd(3, postgres_bin=whole.bin, overrides=overrides) as herd:
        mine = herd.places["n2"]
        values = layout.merge(
            layout.read_settings(mine), {"postgresql": {"bin_dir": str(broken.bin)}}
        )
        layout.write_settings(mine, values)
        herd.start()
        herd.wait_stable(90)
        if herd.primary() == "n2":
            lead(herd, "n1")
        first = herd.wait_primary()
        must_tell_what_lacks(herd, first, broken)
        broken.install_next()
        done(herd, "/nodes/n2/restart")
        until_red(herd, first, ("herd.postgres_versions", ""))
        herd.wait_stable(60)
        pids = {name: herd.postmaster_pid(name) for name in herd.nodes}
        whole.install_next()
        whole.install_next()
        new = broken.install_next()
        broken.break_server()
        herd.wait_for(
            lambda: all(told(herd, name)[1] == new for name in herd.nodes),
            "the newer version",
            deadline_s=30,
        )
        asked = herd.ask("/cluster/upgrade/minor", method="POST", body={}, timeout_s=15.0)
        assert asked["nodes"] == list(herd.nodes)
        action = ended(herd, asked, deadline_s=90)
        assert action["state"] == "failed", action
        assert "n2" in action["step"]
        assert herd.primary() == first
        assert herd.postmaster_pid(first) == pids[first]
        with pytest.raises(NoAnswer, match="n2"):
            herd.ask("/cluster/upgrade/minor", method="POST", body={}, timeout_s=15.0)
