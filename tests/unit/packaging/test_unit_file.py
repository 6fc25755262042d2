"""The systemd unit, its user and its directories agree with the code that they are for."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pgherd.act.rights import NEEDED
from pgherd.cli.place import DIRECTORY_ROOT
from pgherd.cli.start import CONFIG_DEFAULT
from pgherd.config.load import load_text
from pgherd.daemon.supervise import AGENT_REFUSED, STOP_S
from pgherd.postgres import launch

PACKAGING = Path(__file__).parents[3] / "packaging"
UNIT = PACKAGING / "pgherd.service"


@pytest.fixture(scope="module")
def parser() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return parser


@pytest.fixture(scope="module")
def service(parser: configparser.ConfigParser) -> dict[str, str]:
    return dict(parser["Service"])


def test_it_waits_for_the_disks_of_its_files(parser: configparser.ConfigParser) -> None:
    """On an empty mount point a node would begin anew, or be one that has lost everything."""
    places = parser["Unit"]["RequiresMountsFor"].split()
    assert places == [str(Path(CONFIG_DEFAULT).parent), str(DIRECTORY_ROOT)]


def test_it_stops_later_than_the_supervisor(service: dict[str, str]) -> None:
    """And leaves the order of an end to it: PostgreSQL is killed only after that."""
    assert int(service["TimeoutStopSec"]) > STOP_S
    assert service["KillMode"] == "mixed"


def test_it_does_not_start_what_cannot_work(service: dict[str, str]) -> None:
    assert int(service["RestartPreventExitStatus"]) == AGENT_REFUSED


def test_a_child_says_that_it_is_ready(service: dict[str, str]) -> None:
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "all")


def test_it_lends_what_an_address_needs_and_no_more(service: dict[str, str]) -> None:
    assert set(service["AmbientCapabilities"].split()) == set(NEEDED)
    assert set(service["CapabilityBoundingSet"].split()) == set(NEEDED)


def test_it_starts_what_the_command_line_makes(service: dict[str, str]) -> None:
    assert service["ExecStart"] == f"/usr/bin/pgherd start --config {CONFIG_DEFAULT}"
    made = re.findall(r"^d (\S+) (\d+) (\w+)", (PACKAGING / "pgherd.tmpfiles").read_text(), re.M)
    user = service["User"]
    assert made == [
        (str(Path(CONFIG_DEFAULT).parent), "0750", user),
        (str(DIRECTORY_ROOT), "0750", user),
    ]
    assert f"\nu {user} " in (PACKAGING / "pgherd.sysusers").read_text()
    assert service["ReadWritePaths"] == str(Path(CONFIG_DEFAULT).parent)
    defaults = load_text("version: 1\nnode: {name: n1, address: 127.0.0.1}\npostgresql: {}\n")
    assert defaults.postgresql.user == user


def test_a_session_that_the_kernel_took_stops_no_node(service: dict[str, str]) -> None:
    """systemd's own answer to a killed process is to stop the unit; PostgreSQL's is to recover.

    The postmaster is spared, what it forks is not: it has the usual score.
    """
    assert service["OOMPolicy"] == "continue"
    spared = launch.environment(service["OOMScoreAdjust"] + "\n")
    assert spared["PG_OOM_ADJUST_FILE"] == "/proc/self/oom_score_adj"
    assert "PG_OOM_ADJUST_FILE" not in launch.environment("0\n")


def test_systemd_understands_it(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "pgherd.service"
    unit.write_text(UNIT.read_text().replace("/usr/bin/pgherd ", "/bin/true "))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = [line for line in done.stderr.splitlines() if "pgherd" in line]
    assert not found, done.stderr


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm"])
def test_the_packages_scripts_are_posix_shell(script: str) -> None:
    path = PACKAGING / "debian" / script
    assert path.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["sh", "-n", str(path)], check=True)


def purged(tmp_path: Path, action: str) -> tuple[int, bool]:
    """What the script after a removal does with these directories: its end, and whether the
    configuration is still there."""
    text = (PACKAGING / "debian" / "postrm").read_text()
    for place in ("/var/lib/pgherd", "/etc/pgherd"):
        text = text.replace(place, str(tmp_path / place.rpartition("/")[0].strip("/") / "pgherd"))
    script = tmp_path / "postrm"
    script.write_text(text.replace("/run/systemd/system", str(tmp_path / "none")))
    done = subprocess.run(["sh", str(script), action], capture_output=True, check=False)
    return done.returncode, (tmp_path / "etc/pgherd/pgherd.yaml").exists()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A machine's directories, with a configuration and no data."""
    for place in ("etc/pgherd", "var/lib/pgherd"):
        (tmp_path / place).mkdir(parents=True)
    (tmp_path / "etc/pgherd/pgherd.yaml").touch()
    return tmp_path


def test_a_purge_without_data_takes_the_configuration(installed: Path) -> None:
    assert purged(installed, "remove") == (0, True)
    assert purged(installed, "purge") == (0, False)


def test_a_purge_with_data_takes_nothing(installed: Path) -> None:
    (installed / "var/lib/pgherd/raft").touch()
    assert purged(installed, "purge") == (0, True)
    assert (installed / "var/lib/pgherd/raft").exists()


@pytest.mark.parametrize("disk", ["here", "not mounted"])
def test_data_behind_a_link_is_data(installed: Path, disk: str) -> None:
    """Also while the disk that it leads to is away; and a removal does not fail over it."""
    (installed / "var/lib/pgherd").rmdir()
    (installed / "var/lib/pgherd").symlink_to(installed / "disk")
    if disk == "here":
        (installed / "disk").mkdir()
    assert purged(installed, "remove") == (0, True)
    assert purged(installed, "purge") == (0, True)
    assert (installed / "var/lib/pgherd").is_symlink()
