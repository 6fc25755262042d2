"""A build of pgherd that does not exist yet: the present one, and a command that came after it.

The copy knows one level of the ledger more. A command `Praise` came with it, which its herd decider
gives once as soon as the ledger's level allows it. It gets a Python environment of its own, which
takes everything else from the present one. It is built where there is no compiler: without the
extensions in C.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pgherd
from pgherd.ledger.levels import LEVEL

NEXT_LEVEL = LEVEL + 1
NEXT_VERSION = f"{pgherd.__version__}.next"
PRAISE = "what only the next version says"

COMMAND = '''class Praise(Command, frozen=True, tag=True):
    """What came with the next version."""

    text: str = ""


AnyCommand = (
    Praise
    | ChooseFounder'''
HANDLER = """def praise(facts: Facts, c: cmd.Praise, at_ms: int) -> Result:
    return note(facts, at_ms=at_ms, kind="praise", text=c.text), cmd.Done()


HANDLERS: dict[type, Callable[[Facts, Any, int], Result]] = {
    cmd.Praise: praise,"""
RULE = f"""def praise(s: Situation) -> Decision | None:
    from pgherd.ledger import commands as cmd

    said = any(note.kind == "praise" for note in s.facts.notes)
    if said or s.facts.level < {NEXT_LEVEL}:
        return None
    return Decision(999, "the ledger understands it", cmd.Praise({PRAISE!r}))


QUIET: tuple[HerdRule, ...] = (
    HerdRule(999, "The next version praises.", praise),"""
NEEDS = "NEEDS: dict[type, int] = {"
CHANGES: dict[str, tuple[tuple[str, str], ...]] = {
    "__init__.py": ((f'__version__ = "{pgherd.__version__}"', f'__version__ = "{NEXT_VERSION}"'),),
    "ledger/levels.py": (
        (f"LEVEL = {LEVEL}\n", f"LEVEL = {NEXT_LEVEL}\n"),
        (
            "NEEDS: dict[type, int] = {",
            f"NEEDS: dict[type, int] = {{\n    cmd.Praise: {NEXT_LEVEL},",
        ),
    ),
    "ledger/commands.py": (("AnyCommand = (\n    ChooseFounder", COMMAND),),
    "ledger/apply.py": (
        ("HANDLERS: dict[type, Callable[[Facts, Any, int], Result]] = {", HANDLER),
    ),
    "daemon/journal.py": (
        ("    cmd.RequestSwitchover:", '    cmd.Praise: "praise",\n    cmd.RequestSwitchover:'),
    ),
    "plan/herd.py": (("QUIET: tuple[HerdRule, ...] = (", RULE),),
}


def make_next_build(directory: Path) -> str:
    """Write it below a directory; the path of its Python."""
    source = directory / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.so")
    shutil.copytree(Path(pgherd.__file__).parent, source / "pgherd", ignore=ignored)
    for name, changes in CHANGES.items():
        path = source / "pgherd" / name
        text = path.read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{name} has changed: {old!r} is there {text.count(old)} x"
            text = text.replace(old, new)
        path.write_text(text)
    home = directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = home / "lib" / version / "site-packages"
    (packages / "next.pth").write_text(f"{source}\n{sysconfig.get_path('purelib')}\n")
    return str(python)
