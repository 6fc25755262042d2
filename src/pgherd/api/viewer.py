"""The contract as a page for people, at `/docs`: made here, without a script and without a network.

Owns the words around the contract and their form, in HTML for a browser and in Markdown for the
reference (docs/reference/api.md). What there is to show comes from `contract`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Any

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse

METHODS = ("get", "post", "put", "patch", "delete")
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2430; background: #fff }
h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccd }
details { border: 1px solid #dde; border-radius: 6px; margin: .4rem 0; padding: .3rem .8rem }
summary { cursor: pointer } code, b.m { font-family: ui-monospace, monospace }
b.m { display: inline-block; width: 4.5rem } .role { float: right; color: #667 }
table { border-collapse: collapse } td { padding: .15rem .8rem .15rem 0; vertical-align: top }
@media (prefers-color-scheme: dark) { body { color: #dde3ee; background: #14181f } }
"""
CONTENT_SECURITY = "default-src 'none'; style-src 'unsafe-inline'"
GROUPS = (
    ("/api/v1/cluster", "Cluster"),
    ("/api/v1/nodes", "Nodes"),
    ("/api/v1", "Everything else under /api/v1"),
    ("/raft", "Consensus"),
    ("/", "Health checks, and paths of other managers"),
)

router = APIRouter()


class Operation(msgspec.Struct, frozen=True):
    """One call, as it is shown."""

    method: str
    path: str
    about: str
    role: str
    parameters: tuple[tuple[str, str], ...]
    body: str
    answers: tuple[tuple[str, str], ...]


@router.get("/docs", include_in_schema=False)
async def docs(request: Request) -> HTMLResponse:
    """The page."""
    headers = {"Content-Security-Policy": CONTENT_SECURITY}
    return HTMLResponse(page(request.app.openapi()), headers=headers)


def operations(contract: dict[str, Any]) -> Iterator[tuple[str, list[Operation]]]:
    """Every call, in groups."""
    left = sorted(contract["paths"].items())
    for begins, title in GROUPS:
        mine = [one for one in left if one[0].startswith(begins)]
        left = [one for one in left if one not in mine]
        found = [
            shown(path, method, ways[method])
            for path, ways in mine
            for method in METHODS
            if method in ways
        ]
        if found:
            yield title, found


def shown(path: str, method: str, said: dict[str, Any]) -> Operation:
    """What is said of one call."""
    about = said.get("description", "").split("\n\nRole:")[0].strip()
    parameters = tuple(
        (one["name"], one.get("description", "") or kind_of(one.get("schema", {})))
        for one in said.get("parameters", [])
        if one["in"] != "header"
    )
    answers = tuple(
        (status, content_of(one) or one.get("description", ""))
        for status, one in sorted(said["responses"].items())
    )
    body = content_of(said.get("requestBody", {}))
    return Operation(
        method=method.upper(),
        path=path,
        about=" ".join(about.split()),
        role=said.get("x-role", ""),
        parameters=parameters,
        body=body,
        answers=answers,
    )


def content_of(part: dict[str, Any]) -> str:
    """The name of what is sent or answered."""
    found = [kind_of(one.get("schema", {})) for one in part.get("content", {}).values()]
    return " or ".join(dict.fromkeys(text for text in found if text))


def kind_of(schema: dict[str, Any]) -> str:
    """A word for a schema."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        kinds = [kind_of(one) for one in schema["anyOf"] if one.get("type") != "null"]
        return " or ".join(kinds)
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {kind_of(schema.get('items', {})) or 'values'}"
    return str(schema.get("title") or schema.get("type") or "")


def fields(schema: dict[str, Any]) -> list[tuple[str, str]]:
    """The fields of an object, with a word for each."""
    return [(name, typed(one)) for name, one in schema.get("properties", {}).items()]


def typed(schema: dict[str, Any]) -> str:
    """As `kind_of`, without the titles that repeat the name."""
    plain = {key: value for key, value in schema.items() if key != "title"}
    if "anyOf" in plain:
        return " or ".join(typed(one) for one in plain["anyOf"])
    if plain.get("type") == "array":
        return f"list of {typed(plain.get('items', {}))}"
    if plain.get("type") == "object" and isinstance(plain.get("additionalProperties"), dict):
        return f"map to {typed(plain['additionalProperties'])}"
    return str(plain["const"]) if "const" in plain else kind_of(plain) or "any"


# --- for a browser -------------------------------------------------------------------------------


def page(contract: dict[str, Any]) -> str:
    """The whole page."""
    about = "".join(f"<p>{code(one)}</p>" for one in contract["info"]["description"].split("\n\n"))
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width'><title>pgherd API</title>",
        f"<style>{STYLE}</style><h1>pgherd API {escape(contract['info']['version'])}</h1>",
        about,
        "<p>The contract itself: <a href=openapi.json>openapi.json</a>.</p>",
    ]
    for title, found in operations(contract):
        parts.append(f"<h2>{escape(title)}</h2>")
        parts += [detail(one) for one in found]
    parts.append("<h2>Objects</h2>")
    for name, schema in sorted(contract["components"]["schemas"].items()):
        parts.append(
            f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>"
            f"<p>{code(schema.get('description', ''))}</p>{table(fields(schema))}</details>"
        )
    return "\n".join(parts)


def detail(one: Operation) -> str:
    role = f"<span class=role>{escape(one.role)}</span>" if one.role else ""
    body = [("body", one.body)] if one.body else []
    return (
        f"<details><summary>{role}<b class=m>{one.method}</b><code>{escape(one.path)}</code>"
        f"</summary><p>{code(one.about)}</p>{table([*one.parameters, *body])}"
        f"<p>Answers</p>{table(list(one.answers))}</details>"
    )


def table(rows: list[tuple[str, str]]) -> str:
    lines = [f"<tr><td><code>{escape(a)}</code><td>{escape(b)}" for a, b in rows]
    return f"<table>{''.join(lines)}</table>" if rows else ""


def code(text: str) -> str:
    """Text with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


# --- for the reference ---------------------------------------------------------------------------


def markdown(contract: dict[str, Any]) -> str:
    """The page docs/reference/api.md."""
    lines = [
        "# The REST API",
        "",
        "Made by `./dev docs` from the contract that every daemon serves at `/openapi.json`, and",
        "shows at `/docs`. What the calls of Patroni's clients do is in",
        "[operate/patroni-api.md](../operate/patroni-api.md).",
        "",
        *contract["info"]["description"].splitlines(),
    ]
    for title, found in operations(contract):
        lines += ["", f"## {title}", "", "| call | role | what it does |", "|---|---|---|"]
        lines += [row(one) for one in found]
    lines += ["", "## Objects"]
    for name, schema in sorted(contract["components"]["schemas"].items()):
        lines += ["", f"### {name}", "", *schema.get("description", "").splitlines(), ""]
        if fields(schema):
            lines += ["| field | value |", "|---|---|"]
        lines += [f"| `{field}` | {kind} |" for field, kind in fields(schema)]
    return "\n".join(lines).rstrip() + "\n"


def row(one: Operation) -> str:
    asks = [f"`{name}`" for name, _ in one.parameters if f"{{{name}}}" not in one.path]
    asks += [one.body] if one.body else []
    good = [text for status, text in one.answers if status.startswith("2") and text]
    takes = f" Takes {', '.join(asks)}." if asks else ""
    gives = f" Answers {good[0]}." if good else ""
    about = f"{one.about}{takes}{gives}".replace("|", "\\|")
    return f"| {one.method} `{one.path}` | {one.role or 'open'} | {about} |"
