"""Labels: words of an operator's own for a node, which load balancers may ask for.

Owns their form. What they do is `api.checks`'s: `/replica?tag_rack=a1` asks for `rack: a1`.
"""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import PlainValidator

from pgherd.config.problems import Wrong

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,62}")
TEXT_MAX = 200


def parse_name(value: object) -> str:
    """The name of a label: letters, digits, `_`, `.` and `-`."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise Wrong(f"{value!r} is not the name of a label", "write letters and digits, as rack")
    return value


def parse_text(value: object) -> str:
    """What a label says; numbers and true or false as they are written."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str) and len(value) <= TEXT_MAX and value.isprintable():
        return value
    raise Wrong("is not one word", f"write a text of at most {TEXT_MAX} characters, or a number")


LabelName = Annotated[str, PlainValidator(parse_name)]
Label = Annotated[str, PlainValidator(parse_text)]
