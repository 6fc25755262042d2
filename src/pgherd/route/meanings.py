"""What a database says that names mean, as far as routing has to know it.

Pure, and only values: they are asked for by the proxy and answered by the primary's agent.
"""

from __future__ import annotations

import msgspec


class Names(msgspec.Struct, frozen=True):
    """Names without their schemas, as PostgreSQL keeps them: what is asked, or was answered."""

    functions: frozenset[str] = frozenset()
    operators: frozenset[str] = frozenset()
    relations: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.functions) + len(self.operators) + len(self.relations)


class Function(msgspec.Struct, frozen=True):
    """All functions of one name, in whatever schema and with whatever arguments, as the worst of
    them is. is_volatile: of an aggregate, one of the functions that it is made of · takes_rows: one
    that is volatile can be called as if it were a column (`t.f` for `f(t)`).
    """

    is_volatile: bool
    takes_rows: bool = False


class Relation(msgspec.Struct, frozen=True):
    """All relations of one name, in whatever schema. texts: what is run beside the statement when
    they are read, as statements: definitions of views, conditions of policies · why: why a replica
    cannot read one of them, or should not; "" for tables and views as such.
    """

    texts: tuple[str, ...] = ()
    why: str = ""


class Meanings(msgspec.Struct, frozen=True):
    """An answer. about: the names that it answers; one of these that is in no dict does not exist ·
    operators: whether one of the name has a volatile function · doubt: why no statement of this
    database can be judged by its names, "" as it should be.
    """

    about: Names
    functions: dict[str, Function] = {}
    operators: dict[str, bool] = {}
    relations: dict[str, Relation] = {}
    doubt: str = ""
