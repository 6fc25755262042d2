"""Reading the text of a configuration: YAML with line numbers, and overrides from the environment.

Owns syntax only: duplicate keys, where each key stands, and `PGHERD__A__B=value`. Leaves what keys
mean to `settings`. Plain words follow YAML 1.2 (`on`, `no` and `12:30` are text), so that a zone
named `no` or an address never turns into something else. Sequences become tuples.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from textwrap import indent
from typing import Any

import yaml

from pgherd.config.problems import Problem

ENVIRONMENT_PREFIX = "PGHERD__"
TEXT_BYTES_MAX = 1 << 20

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Source:
    """A configuration as read: plain data, and for each key the place where it was written."""

    file: str
    data: dict[str, Any] = field(default_factory=dict)
    places: dict[Path, str] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path) -> str:
        """Where a key, or the nearest of its parents that was written, stands."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.places:
                return self.places[path[:length]]
        return self.file

    def complain(self, path: Path, message: str, hint: str = "") -> None:
        """Add a problem about a key."""
        self.problems.append(Problem(self.place(path), dotted(path), message, hint))


def dotted(path: Path) -> str:
    """Write a path as people do: `proxy.listeners[0].port`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


def read(text: str, *, file: str) -> Source:
    """Parse YAML; syntax errors and duplicate keys become problems, never exceptions."""
    source = Source(file)
    if len(text.encode()) > TEXT_BYTES_MAX:
        source.complain((), "is larger than 1MB", "this does not look like a pgherd configuration")
        return source
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
    except yaml.YAMLError as error:
        source.problems.append(_syntax_problem(error, file))
        return source
    except RecursionError:
        source.complain((), "is nested too deeply", "pgherd's keys are at most five levels deep")
        return source
    if root is None:
        return source
    if not isinstance(root, yaml.MappingNode):
        source.complain((), "is not a map of keys", "write `key: value` lines, one section a block")
        return source
    source.places[()] = f"{file}:1"
    source.data = _build(loader, root, path=(), source=source)
    return source


def override(source: Source, env: Mapping[str, str]) -> None:
    """Lay `PGHERD__SECTION__KEY=value` over what was read; values are YAML."""
    for name in sorted(env):
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        steps = [step.lower() for step in name.removeprefix(ENVIRONMENT_PREFIX).split("__")]
        value = read_value(env[name])
        place = f"environment {name}"
        if not all(steps):
            source.problems.append(
                Problem(
                    place, "", "names no key", "write PGHERD__SECTION__KEY, as PGHERD__RAFT__PORT"
                )
            )
        elif isinstance(value, Problem):
            source.problems.append(Problem(place, ".".join(steps), value.message, value.hint))
        else:
            _lay(source, steps, value=value, place=place)


def read_value(text: str) -> Any:
    """One YAML value without a file around it; a Problem when it is none."""
    many = "\n" in text
    source = read("value:\n" + indent(text, "  ") if many else f"value: {text}", file="")
    if source.problems:
        return source.problems[0]
    return source.data.get("value")


class _Loader(yaml.SafeLoader):
    """SafeLoader with the plain words of YAML 1.2's core schema and without aliases."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call] # PyYAML has no types here
            raise yaml.MarkedYAMLError(
                problem="aliases are not read", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+0123456789."),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})\\Z"), list(_first)
    )


def _build(loader: _Loader, node: Any, *, path: Path, source: Source) -> Any:
    """Turn a node into plain data, noting the line of every key."""
    if isinstance(node, yaml.SequenceNode):
        return tuple(
            _build(loader, item, path=_noted((*path, index), item, source), source=source)
            for index, item in enumerate(node.value)
        )
    if not isinstance(node, yaml.MappingNode):
        return _scalar(loader, node, path=path, source=source)
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            source.problems.append(
                Problem(f"{source.file}:{line}", dotted(path), "has a key that is not a word")
            )
            continue
        key = str(key_node.value)
        inner = (*path, key)
        if key in data:
            first = source.place(inner).rpartition(":")[2]
            source.problems.append(
                Problem(
                    f"{source.file}:{line}",
                    dotted(inner),
                    f"is written twice, first on line {first}",
                    "keep one of the two",
                )
            )
            continue
        _noted(inner, key_node, source)
        data[key] = _build(loader, value_node, path=inner, source=source)
    return data


def _noted(path: Path, node: Any, source: Source) -> Path:
    source.places[path] = f"{source.file}:{node.start_mark.line + 1}"
    return path


def _scalar(loader: _Loader, node: Any, *, path: Path, source: Source) -> Any:
    try:
        return loader.construct_object(node)
    except yaml.YAMLError:
        source.complain(path, f"has the tag {node.tag}, which is not read", "write a plain value")
        return None


def _syntax_problem(error: yaml.YAMLError, file: str) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    said = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "unreadable")
    place = f"{file}:{mark.line + 1}" if mark is not None else file
    hint = (
        "use spaces, not tabs"
        if "'\\t'" in said
        else "quote texts that hold ': ' or start with a sign"
    )
    return Problem(place, "", f"is not YAML: {said}", hint)


def _lay(source: Source, steps: list[str], *, value: Any, place: str) -> None:
    """Put one value at its path, making the maps on the way."""
    path: list[str | int] = []
    here: Any = source.data
    for step in steps[:-1]:
        path.append(step)
        if here.get(step) is None:
            here[step] = {}
        here = here[step]
        if not isinstance(here, dict):
            name = ENVIRONMENT_PREFIX + "__".join(map(str, path)).upper()
            hint = f"set the whole value: {name}='...'"
            problem = Problem(place, dotted(tuple(path)), "is not a map, so it has no keys", hint)
            source.problems.append(problem)
            return
    here[steps[-1]] = value
    whole = (*path, steps[-1])
    for old in [known for known in source.places if known[: len(whole)] == whole]:
        del source.places[old]
    source.places[whole] = place
