"""From a file and an environment to Settings, or to every problem at once.

Owns the order: read, override, validate, then the checks that need several keys or this machine's
files. Owns the wording of what the validator found. Leaves single values to `fields`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path as FilePath
from typing import Any

from pydantic import ValidationError

from pgherd.config import hooks, vip
from pgherd.config.check import file_problems, joint_problems
from pgherd.config.describe import keys_under, walk
from pgherd.config.foreign import explain, explain_assignments, explain_within
from pgherd.config.problems import ConfigError, Problem, Wrong
from pgherd.config.settings import Settings
from pgherd.config.source import Path, Source, dotted, override, read


def load(
    path: FilePath | str,
    env: Mapping[str, str] | None = None,
    *,
    check_files: bool = True,
    check_devices: bool = False,
) -> Settings:
    """Read a node's configuration; ConfigError carries every problem found.

    check_files: also ask whether certificates and secrets can be read on this machine ·
    check_devices: and whether its network interfaces are there.
    """
    file = str(path)
    try:
        text = FilePath(path).read_text(encoding="utf-8")
    except OSError as error:
        hint = "pgherd config generate writes an example, or name another with --config"
        raise ConfigError([Problem(file, "", f"cannot be read: {error.strerror}", hint)]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([Problem(file, "", "is not UTF-8 text", "save it as UTF-8")]) from error
    checks = {"check_files": check_files, "check_devices": check_devices}
    return load_text(text, file=file, env=env or {}, **checks)


def load_text(
    text: str,
    *,
    file: str = "<text>",
    env: Mapping[str, str] | None = None,
    check_files: bool = False,
    check_devices: bool = False,
) -> Settings:
    """The same for a text that was read already."""
    environment = env or {}
    source = read(text, file=file)
    if source.problems and not source.data:
        _not_yaml(source, text)
    override(source, environment)
    settings = _validate(source)
    if settings is not None:
        for path, message, hint in joint_problems(settings):
            source.complain(path, message, hint)
        if check_files:
            for path, message, hint in file_problems(settings, environment):
                source.complain(path, message, hint)
        if check_devices:
            for path, message, hint in vip.device_problems(settings):
                source.complain(path, message, hint)
            for path, message, hint in hooks.program_problems(settings):
                source.complain(path, message, hint)
    if source.problems or settings is None:
        raise ConfigError(_in_order(source))
    return settings


def _not_yaml(source: Source, text: str) -> None:
    """Of a file of `key = value` lines each line is told what it is here."""
    found = list(explain_assignments(text))
    if not found:
        return
    hint = "pgherd reads YAML: pgherd config generate writes an example"
    source.problems[:] = [Problem(source.file, "", "has lines of key = value, as ramd.conf", hint)]
    for number, key, place in found:
        told = ("is another system's name", f"here it is {place}") if place else _UNHEARD_OF
        source.problems.append(Problem(f"{source.file}:{number}", key, *told))


_UNHEARD_OF = ("is not a key of pgherd", "remove it")


def _validate(source: Source) -> Settings | None:
    if source.problems and not source.data:
        return None
    _drop_empty_sections(source.data)
    try:
        return Settings.model_validate(source.data)
    except ValidationError as error:
        for found in error.errors(include_url=False):
            for path, message, hint in _say(found, source.data):
                source.complain(path, message, hint)
        return None


def _drop_empty_sections(data: dict[str, Any]) -> None:
    """A section whose keys are all commented out has its defaults."""
    for described in walk():
        here: Any = data
        for step in described.path[:-1]:
            here = here.get(step) if isinstance(here, dict) else None
        name = described.path[-1]
        if described.is_section and isinstance(here, dict) and here.get(name, "") is None:
            del here[name]
            if described.path == ("postgresql",):
                here[name] = {}  # that it is there says what the node is


def _in_order(source: Source) -> list[Problem]:
    """In the order of the lines, once each; what has no line comes first."""

    def line(problem: Problem) -> tuple[int, str]:
        number = problem.place.rpartition(":")[2]
        return (int(number) if number.isdigit() else 0, problem.key)

    return sorted(dict.fromkeys(source.problems), key=line)


def _say(found: Any, data: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """A validator's finding in our words, as (path, message, hint)."""
    path: Path = _real(tuple(found["loc"]), data)
    kind: str = found["type"]
    wrong = (found.get("ctx") or {}).get("error")
    if isinstance(wrong, Wrong):
        yield path, wrong.message, wrong.hint
    elif kind == "extra_forbidden":
        told = list(explain(path, found["input"]))
        yield from told or [(path, "is not a key of pgherd", _nearest(path))]
    elif kind == "missing":
        yield path, "is missing", _missing_hint(path)
    elif kind in ("model_type", "dict_type", "mapping_type", "model_attributes_type"):
        yield path, "must be a map of keys", _within(path)
    elif kind == "tuple_type":
        yield path, "must be a list", f"write {path[-1]}: [...]"
        known = {(*path, name) for name in keys_under(path)}
        yield from (one for one in explain_within(path, found["input"]) if one[0] not in known)
    elif kind == "literal_error":
        expected = found["ctx"]["expected"].replace("'", "")
        yield path, f"{found['input']!r} is not one of its values", f"write {expected}"
    elif kind in ("int_type", "int_parsing", "int_from_float"):
        yield path, f"{found['input']!r} is not a whole number", "write digits only"
    elif kind == "string_type":
        yield path, "must be text", "put it in quotes"
    elif kind in ("string_too_short", "string_too_long"):
        yield path, "has the wrong length", found["msg"]
    else:
        yield path, found["msg"], ""


def _real(loc: Path, data: Any) -> Path:
    """The validator's path without the names that it gives to branches of a choice."""
    known = {step for described in walk() for step in described.path}
    real: list[str | int] = []
    for step in loc:
        held = isinstance(data, Mapping) and step in data
        if isinstance(step, int) or held or step in known or step in keys_under(tuple(real)):
            real.append(step)
            if held or (isinstance(step, int) and isinstance(data, tuple) and step < len(data)):
                data = data[step]
            else:
                data = None
    return tuple(real)


def _nearest(path: Path) -> str:
    """The key that was probably meant."""
    name = str(path[-1])
    siblings = keys_under(path[:-1])
    close = difflib.get_close_matches(name, siblings, n=1, cutoff=0.7)
    if close:
        return f"did you mean {close[0]}?"
    elsewhere = [described.key for described in walk() if described.path[-1] == name]
    if elsewhere:
        return f"did you mean {elsewhere[0]}?"
    return _within(path[:-1])


def _within(path: Path) -> str:
    names = keys_under(path)
    where = dotted(path) or "the file"
    return f"{where} has {', '.join(names)}" if names else "remove it"


def _missing_hint(path: Path) -> str:
    if path == ("version",):
        return "begin the file with version: 1"
    examples = {"name": "n1", "address": "10.0.1.1"}
    if path[:1] == ("node",) and str(path[-1]) in examples:
        return f"write {path[-1]}: {examples[str(path[-1])]} under node"
    if path == ("node",):
        return "write node: {name: n1, address: 10.0.1.1}"
    return f"write {path[-1]}: ... there"
