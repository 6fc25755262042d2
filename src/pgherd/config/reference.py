"""The reference page of the configuration, written from the keys themselves.

Owns the text of docs/reference/configuration.md; a test keeps the file equal to it, and
`./dev docs` writes it anew.
"""

from __future__ import annotations

from collections.abc import Iterator

from pgherd.config.describe import Described, walk
from pgherd.config.detection import worst_case
from pgherd.config.foreign import ANYWHERE, COMES_LATER, NOBODYS
from pgherd.config.generate import limit_of, written
from pgherd.config.load import load_text
from pgherd.config.others import SAME, products
from pgherd.config.parameters import CHOICES, OWNED

_HEAD = """# Configuration

<!-- Generated from src/pgherd/config/settings.py by `./dev docs`; edit the keys there. -->

One YAML file per node, `/etc/pgherd/pgherd.yaml` unless `--config` names another. It is strict:
unknown keys, duplicate keys and values without a unit are refused, all at once, each with its line.
`pgherd config generate` writes every key with its default; `pgherd config validate` checks a file.

Durations take `ms s m h d`, sizes `B kB MB GB TB` (1024 each). Secrets are `file:/path` or
`env:NAME`, and are read again when they change. Every key can be set from the environment:
`PGHERD__RAFT__PORT=8301` is `raft.port`, values are YAML. *Change* says what a new value needs:
**live** is applied by a reload of the daemon at once, **reload** also reloads PostgreSQL or the
certificates, **restart** takes effect when this node's daemon is started again.
"""


_SMALLEST = "version: 1\nnode: {name: n1, address: 127.0.0.1}\n"
_DETECTION = """At the defaults the longest times to detection are:

> {worst}

`pgherd config validate` works them out for a file. `timeout` times `failures`, and `write_stall`,
are no shorter than `failover.detect`: a stall that does not end the reign of a silent node does not
end it as its server's illness either. A server that hangs has to be found before its lease would be
over, `failover.lease_ttl`.
"""


def reference() -> str:
    """The whole page."""
    parts = [_HEAD, *_sections(), _owned(), _later(), _foreign()]
    return "\n".join(parts)


def _sections() -> Iterator[str]:
    described = list(walk())
    yield _table("The file", [item for item in described if len(item.path) == 1])
    for section in (item for item in described if item.is_section):
        keys = [item for item in described if item.path[:-1] == section.path]
        title = (section.section.__doc__ or "").strip() if section.section else ""
        yield _table(f"`{section.key}`", keys, title)
        if section.key == "failover.probe":
            yield _DETECTION.format(worst=worst_case(load_text(_SMALLEST)))


def _table(heading: str, keys: list[Described], title: str = "") -> str:
    rows = [_row(item) for item in keys if not item.is_section]
    lines = [f"## {heading}", "", *([title, ""] if title else [])]
    if rows:
        lines += ["| key | default | change | what it is |", "|---|---|---|---|", *rows, ""]
    for item in (item for item in keys if item.info is not None and item.section is not None):
        lines += [*_within(item), ""]
    return "\n".join(lines)


def _row(item: Described) -> str:
    assert item.info is not None
    default = "required" if item.required else f"`{_cell(written(item.default, item))}`"
    values = (
        f" One of {', '.join(f'`{word}`' for word in item.values)}." if len(item.values) > 1 else ""
    )
    text = " ".join(part for part in (item.info.comment + values, limit_of(item)) if part)
    return f"| `{item.key}` | {default} | {item.info.change} | {_cell(text)} |"


def _within(item: Described) -> Iterator[str]:
    """The keys inside a list's or an optional map's entry."""
    yield f"In `{item.key}`:"
    yield ""
    for inner in walk(item.section) if item.section is not None else ():
        if inner.info is not None:
            values = f" ({', '.join(inner.values)})" if len(inner.values) > 1 else ""
            yield f"- `{inner.path[-1]}`: {inner.info.comment}{values}"


def _owned() -> str:
    rows = [f"| `{name}` | {why} |" for name, why in OWNED.items()]
    rows += [f"| `{name}` | only {' or '.join(CHOICES[name])} |" for name in CHOICES]
    head = ["## PostgreSQL parameters that pgherd sets", "", "| parameter | why |", "|---|---|"]
    return "\n".join([*head, *rows, ""])


def _later() -> str:
    rows = [f"| `{key}` | {hint or '-'} |" for key, hint in COMES_LATER.items()]
    head = ["## Not available in this version", "", "| key | until then |", "|---|---|"]
    return "\n".join([*head, *rows, ""])


def _foreign() -> str:
    lines = (
        "## Names from other systems",
        "",
        "A file with another system's keys is refused, and each of them is answered with its name",
        "here: [keys of other systems](keys-of-others.md).",
        "",
    )
    return "\n".join(lines)


_OTHERS_HEAD = """# Keys of other systems

<!-- Generated from src/pgherd/config/others/ by `./dev docs`; edit the tables there. -->

What takes the place of each key of the products that people come from. `pgherd config validate`
says the same of a file that has them, key by key, each with its line; nothing is converted
silently. `=` means: the same key. `nothing` means that there is no such key here, and why.
"""


def others() -> str:
    """The page of other systems' keys."""
    parts = [_OTHERS_HEAD]
    for product in products():
        keys = {**product.keys, **{name: place for name, (place, _) in product.sections.items()}}
        inner = {name: of for name, (_, of) in product.sections.items()}
        lines = [f"## {product.name}", "", f"From {product.source}.", ""]
        lines += ["| there | here |", "|---|---|"]
        for key, place in keys.items():
            within = f" with `{'`, `'.join(inner[key])}`" if key in inner else ""
            lines.append(f"| `{key}`{within} | {_cell(shown(place))} |")
        parts.append("\n".join([*lines, ""]))
    rest = {**NOBODYS, **ANYWHERE}
    lines = ["## Written by hand", "", "| there | here |", "|---|---|"]
    parts.append("\n".join([*lines, *(f"| `{k}` | {_cell(v)} |" for k, v in rest.items()), ""]))
    return "\n".join(parts)


def shown(place: str) -> str:
    """What takes a key's place, for the page."""
    return "=" if place == SAME else place


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
