"""A walk over every key that exists, with all that is told about it.

Owns the one reading of the models' fields on which the generated file, the reference page, the
difference of two settings and the hints of `load` stand. Leaves their form to those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from pgherd.config.fields import Change, Key
from pgherd.config.section import Section
from pgherd.config.settings import Settings


@dataclass(frozen=True, slots=True)
class Described:
    """One key or section. attributes: how to reach it from Settings; info: None for a section."""

    path: tuple[str, ...]
    attributes: tuple[str, ...]
    required: bool
    default: Any
    info: Key | None
    section: type[Section] | None
    values: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """The dotted key."""
        return ".".join(self.path)

    @property
    def is_section(self) -> bool:
        """Whether it is a plain section that only holds other keys."""
        return self.info is None

    @property
    def environment(self) -> str:
        """The environment variable that overrides it."""
        return "PGHERD__" + "__".join(step.upper() for step in self.path)


def walk(
    section: type[Section] = Settings, *, above: Described | None = None
) -> Iterator[Described]:
    """Every key in the order of the file; a section comes before its keys."""
    for attribute, field in section.model_fields.items():
        described = _describe(attribute, field, above)
        yield described
        if described.is_section and described.section is not None:
            yield from walk(described.section, above=described)


def value_of(settings: Settings, described: Described) -> Any:
    """The value that settings hold for a key."""
    value: Any = settings
    for attribute in described.attributes:
        value = getattr(value, attribute)
    return value


def keys_under(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The names that may stand in the map at a path, lists and optional maps included."""
    section: type[Section] | None = Settings
    is_named = False
    for step in path:
        if isinstance(step, int):
            continue
        if is_named:
            is_named = False  # a name of the operator's own
            continue
        fields = section.model_fields if section is not None else {}
        found = next((f for name, f in fields.items() if (f.alias or name) == step), None)
        section = _section_in(found.annotation) if found is not None else None
        is_named = found is not None and section is not None and _is_map(found.annotation)
    if is_named:
        return ()
    fields = section.model_fields if section is not None else {}
    return tuple(field.alias or name for name, field in fields.items())


def _describe(attribute: str, field: FieldInfo, above: Described | None) -> Described:
    info = next((item for item in field.metadata if isinstance(item, Key)), None)
    return Described(
        path=(*(above.path if above else ()), field.alias or attribute),
        attributes=(*(above.attributes if above else ()), attribute),
        required=field.is_required(),
        default=None if field.is_required() else field.get_default(call_default_factory=True),
        info=info,
        section=_section_in(field.annotation),
        values=tuple(_words(field.annotation)),
    )


def change_of(described: Described) -> Change:
    """What a change of a key needs."""
    return described.info.change if described.info is not None else Change.RESTART


def _section_in(annotation: Any) -> type[Section] | None:
    """The model inside `X`, `X | None`, `Annotated[X, ...]`, `tuple[X, ...]` or a map to X."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    for inner in get_args(annotation):
        found = _section_in(inner)
        if found is not None:
            return found
    return None


def _is_map(annotation: Any) -> bool:
    """Whether it is a map of names to something."""
    return get_origin(annotation) is Mapping or any(_is_map(one) for one in get_args(annotation))


def _words(annotation: Any) -> Iterator[str]:
    """The words that a choice allows."""
    origin = get_origin(annotation)
    if origin is Literal:
        yield from (str(word) for word in get_args(annotation))
    elif origin in (Union, UnionType):
        for inner in get_args(annotation):
            yield from _words(inner)
