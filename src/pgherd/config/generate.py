"""A whole configuration as text: every key, its value, default, unit, limit and comment.

Owns the form of the file that `pgherd config generate`, `init` and `join` write. What it writes
loads again to the same settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from pgherd.config.describe import Described, walk
from pgherd.config.fields import Seat, Secret
from pgherd.config.problems import ConfigError, Problem
from pgherd.config.section import Section

EXAMPLES: dict[str, Any] = {"version": 1, "node.name": "n1", "node.address": "127.0.0.1"}
"""Values of keys that have no default, until they are given."""


def generate(overrides: Mapping[str, Any] | None = None, *, without: str = "") -> str:
    """Write every key; overrides are dotted keys (`raft.port`) to values as one writes them.

    without: a section that is left out as a whole.
    """
    given = dict(overrides or {})
    known = {described.key for described in walk() if not described.is_section}
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ConfigError(Problem("", key, "is not a key to generate") for key in unknown)
    lines = ["# pgherd, one node. Check with: pgherd config validate --config FILE"]
    for described in walk():
        if described.path[0] == without:
            continue
        indent = "  " * (len(described.path) - 1)
        if described.is_section:
            title = (described.section.__doc__ or "").strip() if described.section else ""
            if len(described.path) == 1:
                lines.append("")
            lines += [f"{indent}# {title}", f"{indent}{described.path[-1]}:"]
            continue
        value = given.get(described.key, EXAMPLES.get(described.key, described.default))
        lines.append(f"{indent}# {told(described)}")
        lines.append(f"{indent}{described.path[-1]}: {written(value, described)}")
    return "\n".join(lines) + "\n"


def told(described: Described) -> str:
    """Comment, default and limit of a key in one line."""
    info = described.info
    assert info is not None
    parts = [info.comment]
    if not described.required:
        parts.append(f"Default {written(described.default, described)}.")
    limit = limit_of(described)
    if limit:
        parts.append(limit)
    return " ".join(parts)


def limit_of(described: Described) -> str:
    """The lower and upper limit of a key as a sentence, empty without."""
    info = described.info
    if info is None or (info.least is None and info.most is None):
        return ""
    parts = []
    if info.least is not None:
        parts.append(f"at least {info.written(info.least)}")
    if info.most is not None:
        parts.append(f"at most {info.written(info.most)}")
    sentence = ", ".join(parts) + (f": {info.why}" if info.why else "")
    return sentence[0].upper() + sentence[1:] + "."


def written(value: Any, described: Described) -> str:
    """A value as it stands in the file, on one line."""
    info = described.info
    if info is not None and info.unit and isinstance(value, int):
        return info.written(value)
    text = yaml.safe_dump(
        _plain(value), default_flow_style=True, width=1 << 20, sort_keys=False, allow_unicode=True
    )
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(value: Any) -> Any:
    """Values as YAML knows them."""
    if isinstance(value, Secret):
        return value.reference if value.kind == "text" else value.shown()
    if isinstance(value, Path | Seat):
        return str(value)
    if isinstance(value, Section):
        fields = type(value).model_fields
        return {
            fields[name].alias or name: _plain(getattr(value, name))
            for name in fields
            if getattr(value, name) is not None
        }
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
