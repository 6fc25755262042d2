"""Contexts: clusters that a person has logged in to, from a laptop or from anywhere.

Owns the file with addresses, tokens and authorities, which only its owner reads, and the commands
that change it. A token is typed at a prompt or comes from a file, never from the command line,
where every process of the machine could read it. Client certificates are not kept: PGHERD_CERT and
PGHERD_KEY name them each time.
"""

from __future__ import annotations

import getpass
import os
import stat
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from pgherd.cli.app import Command, Common, asking
from pgherd.cli.client import Api, Target, with_environment
from pgherd.cli.output import Format, emit, line, say, table
from pgherd.model.errors import OperatorError

NAME_MAX = 64
FILE = "contexts.yaml"


class Context(msgspec.Struct, frozen=True):
    """One cluster. ca: PEM of the authority that its API is checked against, "" = the system's."""

    urls: tuple[str, ...]
    token: str = ""
    ca: str = ""


class Known(msgspec.Struct, frozen=True):
    """All of them. current: where to ask when nothing else says it."""

    current: str = ""
    contexts: dict[str, Context] = {}


def place() -> Path:
    """The file, in the user's own configuration directory."""
    base = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return Path(base) / "pgherd" / FILE


def read() -> Known:
    """What is known; nothing where there is no file. Refuses one that others can read."""
    import yaml

    path = place()
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise OperatorError(
                    f"{path} has tokens in it and is open to others", f"chmod 600 {path}"
                )
            value = yaml.safe_load(file) or {}
        return msgspec.convert(value, type=Known)
    except FileNotFoundError:
        return Known()
    except OSError as error:
        raise OperatorError(
            f"cannot read {path}: {error.strerror}", "make it yours, or ask with --api-url URL"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise OperatorError(
            f"{path} is broken: {error}", "remove it, then: pgherd login"
        ) from error


def write(known: Known) -> None:
    """Replace the file, for its owner alone."""
    import yaml

    from pgherd.pki.files import write_private

    path = place()
    text = yaml.safe_dump(msgspec.to_builtins(known), sort_keys=False)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, text.encode())
    except OSError as error:
        raise OperatorError(
            f"cannot write {path}: {error.strerror}", "set XDG_CONFIG_HOME to a directory of yours"
        ) from error


def target_of(name: str | None) -> Target | None:
    """Where a context leads; of none that is named, the current one; None where there is none."""
    known = read()
    wanted = name or known.current
    if not wanted:
        return None
    found = known.contexts.get(wanted)
    if found is None:
        raise unknown(known, wanted)
    return Target(urls=found.urls, token=found.token, ca=found.ca)


def unknown(known: Known, name: str) -> OperatorError:
    """There is no such context."""
    have = ", ".join(sorted(known.contexts)) or "none"
    return OperatorError(f"there is no context {name}", f"there are: {have}; or pgherd login")


@asking
def login(
    common: Common,
    url: Annotated[
        str, typer.Argument(metavar="URL", help="https://node:8008, several with commas.")
    ],
    name: Annotated[
        str | None, typer.Option("--name", help="Of the context; the cluster's name unless said.")
    ] = None,
    token_file: Annotated[
        str | None, typer.Option("--token-file", help="File with the token; - for standard input.")
    ] = None,
    ca: Annotated[
        str | None, typer.Option("--ca", help="The cluster's authority: ca.crt of any node.")
    ] = None,
) -> None:
    """Remember a cluster's address, token and authority, once they work."""
    urls = tuple(one.strip().rstrip("/") for one in url.split(",") if one.strip())
    if not urls or not all(one.startswith(("https://", "http://")) for one in urls):
        raise OperatorError(f"{url} is not an address of an API", "as in https://10.0.1.1:8008")
    authority = pem_of(ca or os.environ.get("PGHERD_CA"))
    made = Context(urls=urls, token=given_token(token_file), ca=authority)
    given = with_environment(Target(urls=made.urls))
    target = msgspec.structs.replace(given, token=made.token, ca=made.ca)
    found = Api(target, timeout_s=common.timeout_s).get("/api/v1/cluster/status")
    chosen = name or str(found["cluster_name"])
    if len(chosen) > NAME_MAX:
        raise OperatorError("this name is too long", f"at most {NAME_MAX} characters: --name NAME")
    known = read()
    write(Known(current=chosen, contexts={**known.contexts, chosen: made}))
    if common.output is not Format.TABLE:
        emit({"context": chosen, "cluster": found["cluster_name"]}, common.output)
        return
    line(f"context {chosen}: cluster {found['cluster_name']}, {found['status']}")
    if target.cert and not made.token:
        say("it has no token, and keeps no certificate: set PGHERD_CERT and PGHERD_KEY each time")
    elif not made.token:
        say("it has no token: what needs one will be refused (PGHERD_TOKEN, or login again)")


def given_token(file: str | None) -> str:
    """From a file, the environment, or a person; "" where nobody can be asked, or needs to be."""
    if file is not None:
        try:
            source = sys.stdin.buffer.readline() if file == "-" else Path(file).read_bytes()
            return source.decode("ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise OperatorError(
                f"cannot read a token from {file}: {error}",
                "it is a text file with the token alone; or set PGHERD_TOKEN",
            ) from error
    if token := os.environ.get("PGHERD_TOKEN", ""):
        return token
    if os.environ.get("PGHERD_CERT") or not sys.stdin.isatty():
        return ""
    return getpass.getpass("token: ").strip()


def pem_of(file: str | None) -> str:
    """The authority itself, so that the context works where its file is not."""
    if file is None:
        return ""
    try:
        text = Path(file).read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(
            f"cannot read the CA certificate {file}: {error}", "it is pki/ca.crt of any node"
        ) from error
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise OperatorError(f"{file} is no certificate", "it is pki/ca.crt of any node")
    return text


@asking
def list_contexts(common: Common) -> None:
    """The clusters that were logged in to."""
    known = read()
    rows: list[dict[str, Any]] = [
        {
            "context": name,
            "is_current": name == known.current,
            "urls": list(one.urls),
            "has_token": bool(one.token),
            "has_ca": bool(one.ca),
        }
        for name, one in sorted(known.contexts.items())
    ]
    if common.output is not Format.TABLE:
        emit(rows, common.output)
        return
    columns = ("context", "is_current", "urls", "has_token", "has_ca")
    table(columns, [[row[name] for name in columns] for row in rows], color=common.color)


NameArgument = Annotated[str, typer.Argument(metavar="CONTEXT", help="Its name.")]


def use(context: NameArgument) -> None:
    """Ask this cluster from now on, where nothing else is said."""
    known = read()
    if context not in known.contexts:
        raise unknown(known, context)
    write(msgspec.structs.replace(known, current=context))
    line(f"context {context}")


def remove(context: NameArgument) -> None:
    """Forget a cluster, with its token."""
    known = read()
    if context not in known.contexts:
        raise unknown(known, context)
    left = {name: one for name, one in known.contexts.items() if name != context}
    write(Known(current="" if known.current == context else known.current, contexts=left))
    line(f"{context} is forgotten")


COMMANDS: dict[str, Command] = {"login": login}
GROUP: dict[str, Command] = {"list": list_contexts, "use": use, "remove": remove}
