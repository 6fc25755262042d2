"""The documentation as a site: what Sphinx is told. `./dev docs` builds it into build/site.

Owns the sections of the side bar. Leaves the pages to people and to docs/make.py: they are plain
Markdown that reads as well where there is no site, so nothing of Sphinx stands in them.
"""

from __future__ import annotations

project = "pgherd"
author = "the pgherd authors"
copyright = author
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "bench/*.md"]
exclude_patterns = ["**/.venv"]
myst_heading_anchors = 5
html_theme = "furo"
html_title = "pgherd"
html_copy_source = False
html_show_sphinx = False
pygments_style = "default"

SECTIONS = {
    "Guide": (
        "first-cluster concepts applications sessions command-line not",
        "docs/guide",
    ),
    "Operate": (
        "install day-2 runbooks disaster troubleshooting tuning security metrics logs events"
        " maintenance upgrade parameters access passwords ways-in pools vip proxy-nodes replicas"
        " slots topology archive standby-cluster adopt reload votes saved-ledger patroni-api",
        "docs/operate",
    ),
    "Coming from": ("patroni pg_auto_failover repmgr haproxy pgbouncer", "docs/migrate"),
}
"""caption -> pages in this order, below a directory. Others of the directory follow them."""
WHOLE = {
    "Reference": "docs/reference",
    "Design": "docs/design",
    "Choices": "docs/adr",
    "Alerts": "docs/operate/alerts",
}
"""caption -> a directory, all of it."""
REST = "bench/peers docs/glossary ARCHITECTURE CONTRIBUTING SECURITY CHANGELOG README"


def toctree(caption: str, entries: list[str]) -> str:
    """A list for the side bar."""
    lines = [f"/{entry}" for entry in entries]
    return "\n".join(
        ["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *lines, "```", ""]
    )


def add_side_bar(app, docname, source):
    """The lists of pages, on the first page, where its file says nothing of them."""
    if docname != root_doc:
        return
    known = sorted(app.env.found_docs)
    parts = []
    for caption, (names, directory) in SECTIONS.items():
        first = [f"{directory}/{name}" for name in names.split()]
        more = [one for one in known if one.rpartition("/")[0] == directory and one not in first]
        parts.append(toctree(caption, first + more))
    for caption, directory in WHOLE.items():
        parts.append(toctree(caption, [one for one in known if one.startswith(f"{directory}/")]))
    parts.append(toctree("The rest", REST.split()))
    source[0] += "".join(parts)


def setup(app):
    """Called by Sphinx."""
    from pygments.lexers.special import TextLexer

    app.add_lexer("mermaid", TextLexer)  # a drawing where Markdown draws it; its text here
    app.connect("source-read", add_side_bar)
    return {"parallel_read_safe": True}
