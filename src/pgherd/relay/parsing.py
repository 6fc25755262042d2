"""PostgreSQL's own parser for `route`, as the package `pgparse` brings it (libpg_query).

Owns the one import of it. Every outcome is a value: the walk over a tree is iterative, but the JSON
of one that is nested some hundred deep is not read, and is reported as not parsed. No reason has
the parser's own words, for they quote the text, and reasons are logged.
"""

from __future__ import annotations

import pgparse  # type: ignore[import-not-found] # it has no types

from pgherd.route.statement import Tree, Unparsed


def parse(text: str) -> Tree | Unparsed:
    """The statements of a text."""
    if "\0" in text:
        return Unparsed("a zero byte")
    try:
        tree: Tree = pgparse.parse(text)
    except pgparse.PGQueryError:
        return Unparsed("a syntax error, or a newer PostgreSQL's grammar")
    except RecursionError:
        return Unparsed("it is nested too deep")
    except ValueError:  # what is no UTF-8, or JSON of a length that Python refuses
        return Unparsed("it cannot be read")
    return tree
