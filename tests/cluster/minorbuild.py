"""An installation of PostgreSQL that gets a newer minor version in its place, as a package would.

The newer version does not exist: it is the present one whose programs, the server among them, call
themselves so, in `--version` and in `server_version_num`.
"""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path


class Installation:
    """A copy of one under a directory that everybody reaches."""

    def __init__(self, original: Path, directory: Path) -> None:
        root = original.parent
        self.bin = directory / root.name / original.name
        shutil.copytree(root, self.bin.parent, symlinks=True)
        libraries = root.parent.with_name(f"{root.parent.name}.libs")
        if libraries.is_dir():  # a wheel finds them two folders above its programs
            shutil.copytree(libraries, directory.parent / libraries.name, dirs_exist_ok=True)
        directory.chmod(0o755)

    @property
    def version(self) -> str:
        """What its server says of itself."""
        words = [str(self.bin / "postgres"), "--version"]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        found = re.search(r"\(PostgreSQL\) (\d+\.\d+)", said)
        assert found is not None, said
        return found[1]

    def install_next(self) -> str:
        """Put the next minor version in its place while the old one runs; its version."""
        old = self.version
        major, minor = (int(part) for part in old.split("."))
        new = f"{major}.{minor + 1}"
        assert len(new) == len(old), "the texts have one length"
        numbers = [struct.pack("<i", major * 10_000 + one) for one in (minor, minor + 1)]
        for path in sorted(self.bin.iterdir()):
            if path.is_symlink():
                continue
            data = path.read_bytes().replace(old.encode(), new.encode())
            if path.name == "postgres":
                data = data.replace(*numbers)
            replace(path, data)
        assert self.version == new
        return new

    def break_server(self) -> None:
        """Put a server there that knows its version and does not come up."""
        says = f"echo 'postgres (PostgreSQL) {self.version}'; exit 0"
        text = f'#!/bin/sh\ncase "$1" in --version | -V) {says} ;; esac\nexit 1\n'
        replace(self.bin / "postgres", text.encode())


def replace(path: Path, data: bytes) -> None:
    """As a package manager does: beside it, then in its place."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(data)
    beside.chmod(0o755)
    beside.rename(path)
