"""PostgreSQL's own parser for `route`, as the package `pgparse` brings it (libpg_query).

Owns the one import of it. Every outcome is a value: the walk over a tree is iterative, but the JSON
of one that is nested some hundred deep is not read, and is reported as not parsed.
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
    except pgparse.PGQueryError as error:
        return Unparsed(str(error))
    except RecursionError:
        return Unparsed("it is nested too deep")
    except ValueError as error:  # what is no UTF-8, or JSON of a length that Python refuses
        return Unparsed(f"it cannot be read: {error}")
    return tree
