"""The first application database and its role, made by `init --database --user`.

Owns the two statements and the password's file. The password goes to PostgreSQL as a SCRAM
verifier and to a file that only its owner reads, never to a log or the command line.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pgherd.cli.founding import lined
from pgherd.cli.output import say
from pgherd.cli.place import Place
from pgherd.cli.verify import connect
from pgherd.model.errors import OperatorError

if TYPE_CHECKING:
    from pgherd.config.settings import Settings

NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def check_names(database: str, user: str) -> None:
    """Names that need no quotes anywhere; refused before anything is made."""
    for name in (database, user):
        if NAME.fullmatch(name) is None or name.startswith("pg_"):
            raise OperatorError(
                f"{name!r} is not a plain name", "small letters, digits and _: --database app"
            )


def create(place: Place, settings: Settings, *, database: str, user: str) -> None:
    """Make role and database where they do not exist; the password is in secrets/USER.password."""
    from psycopg import sql

    from pgherd.pki.files import write_private
    from pgherd.pki.token import new_secret

    password = new_secret()
    file = place.secret(f"{user}.password")
    with connect(settings) as connection:
        if exists(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", user):
            say(f"ok    the role {user} exists")
        else:
            write_private(file, lined(password))
            verifier = connection.pgconn.encrypt_password(
                password.encode(), user.encode(), b"scram-sha-256"
            ).decode()
            connection.execute(
                sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(
                    sql.Identifier(user), sql.Literal(verifier)
                )
            )
            say(f"ok    made the role {user}, its password is in {file}")
        if exists(connection, "SELECT 1 FROM pg_database WHERE datname = %s", database):
            say(f"ok    the database {database} exists")
        else:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    sql.Identifier(database), sql.Identifier(user)
                )
            )
            say(f"ok    made the database {database}")


def exists(connection: object, query: str, name: str) -> bool:
    """Whether a catalog row is there."""
    return connection.execute(query, (name,)).fetchone() is not None  # type: ignore[attr-defined] # psycopg, lazily
