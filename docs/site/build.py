"""Build the site into build/site: `./dev docs`. Any warning fails it, broken links first of all.

Owns the call of Sphinx. What it is told is in conf.py beside this file.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "build" / "site"


def main(words: list[str]) -> int:
    """Build into the directory that is named, else into build/site; the exit code."""
    into = Path(words[0]) if words else SITE
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-j", "2", "-b", "html"]
    places = ["-c", ROOT / "docs" / "site", "-d", into.with_name(f"{into.name}.doctrees")]
    command = [sys.executable, "-m", "sphinx", *options, *places, ROOT, into]
    code = subprocess.run([str(word) for word in command], check=False).returncode
    if code == 0:
        print(f"the site: {into / 'docs' / 'index.html'}")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
