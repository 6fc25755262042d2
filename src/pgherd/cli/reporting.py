"""`pgherd report`: one file for whoever helps: how the cluster is, was, and is set up; its logs.

Everything is asked of the API as any operator could; this node's own configuration is added where
it can be read. All of it passes the sieve of `redacting`. What could not be had is listed in
`missing.txt`: a bundle is most needed when half of a cluster is down.
"""

from __future__ import annotations

import io
import json
import os
import platform
import re
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from pgherd import __version__
from pgherd.cli.app import Command, Common, asking
from pgherd.cli.client import ApiError, is_sent_elsewhere, read_settings
from pgherd.cli.output import Format, emit, line, say
from pgherd.cli.redacting import Sieve
from pgherd.cli.start import find_config
from pgherd.model.errors import BugError, OperatorError, PgherdError

LINES = 1000
EVENTS = 500
PATIENCE_S = 60.0
PARTS = {
    "status.json": "/api/v1/cluster/status",
    "health.json": "/api/v1/cluster/health",
    "nodes.json": "/api/v1/nodes",
    "history.json": "/api/v1/history?limit=500",
    "explain.json": "/api/v1/explain",
    "doctor.json": "/api/v1/doctor",
    "config.json": "/api/v1/config",
    "config-history.json": "/api/v1/config/history",
    "replication.json": "/api/v1/replication/sync",
    "slots.json": "/api/v1/replication/slots",
    "events.json": f"/api/v1/events?follow=0&level=debug&limit={EVENTS}",
    "raft-state.json": "/raft/state",
    "raft-peers.json": "/raft/peers",
    "directives.json": "/raft/directives",
    "actions.json": "/api/v1/actions",
    "progress.json": "/api/v1/progress",
    "vip.json": "/api/v1/vip",
    "pools.json": "/api/v1/proxy/pools",
    "connections.json": "/connections",
    "audit.json": "/api/v1/audit",
}
"""File -> what is asked."""
OF_EACH = {
    "explain.json": "/api/v1/explain/{node}",
    "checkup.json": "/api/v1/nodes/{node}/checkup",
    "vitals.json": "/api/v1/nodes/{node}/vitals",
    "health.json": "/api/v1/nodes/{node}/health",
    "agent.log": f"/api/v1/nodes/{{node}}/logs?source=agent&lines={LINES}",
    "postgresql.log": f"/api/v1/nodes/{{node}}/logs?source=postgres&lines={LINES}",
}
"""The same of every node, in a directory of its name; checkup.json has PostgreSQL's settings."""

PASSFILE_FIELD = re.compile(r"(?:^|:)((?:\\.|[^:\\])*)")
PASSFILE_FIELDS = 5
"""host:port:database:user:password, in which a backslash stands before a colon or itself."""

README = """A support bundle of pgherd {version}, made {made} on {node}.

Secrets were taken out: passwords, tokens, keys, connection strings, commands and the environment.
Names, addresses, statements in PostgreSQL's log and parameters are in it: look before you send it.

doctor.json     everything that was found wrong, with what to do
status.json     the cluster as it is; history.json what it did; explain.json why
nodes/N/        one node: its logs, and checkup.json with its kernel, disks, ports and settings
missing.txt     what could not be had, and why
"""


@asking
def report(
    common: Common,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; default: here, by the time.")
    ] = None,
) -> None:
    """Make a support bundle: everything that helps to understand, without secrets."""
    made = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    path = out or Path(f"pgherd-report-{made}.tar.gz")
    if path.exists():
        raise OperatorError(f"{path} is there already", "name another with --out")
    sieve = Sieve(known_secrets(common))
    contents, errors = gathered(common, sieve)
    if not {"status.json", "doctor.json"} & set(contents):
        raise errors["status.json"]
    missing = [f"{name}: {error.message}" for name, error in errors.items()]
    about = README.format(version=__version__, made=made, node=platform.node())
    contents["README.txt"] = sieve.by_value(about).encode()
    contents["missing.txt"] = sieve.text("".join(f"{one}\n" for one in missing)).encode()
    write(path, contents, sieve)
    if common.output is not Format.TABLE:
        emit({"file": str(path), "parts": sorted(contents), "missing": missing}, common.output)
    else:
        line(str(path))
    say(f"{len(contents)} files; look into it before you send it: tar tzf {path}")
    if missing:
        say(f"{len(missing)} parts could not be had; missing.txt says why")


def gathered(common: Common, sieve: Sieve) -> tuple[dict[str, bytes], dict[str, PgherdError]]:
    """Every part that could be had, and why the others could not."""
    contents: dict[str, bytes] = {}
    errors: dict[str, PgherdError] = {}
    for name, content in parts(common, sieve):
        if isinstance(content, PgherdError):
            errors[name] = content
        else:
            contents[name] = content
    return contents, errors


def parts(common: Common, sieve: Sieve) -> Iterator[tuple[str, bytes | PgherdError]]:
    """One after the other, each with its name."""
    yield "versions.json", shown(sieve, versions())
    yield from own_file(common, sieve)
    answers: dict[str, Any] = {}
    for name, path in PARTS.items():
        answer = asked(common, path)
        answers[name] = answer
        if isinstance(answer, ApiError) and answer.code == "unreachable":
            yield name, answer
            yield from without_daemon(common, sieve)
            return
        yield name, answer if isinstance(answer, PgherdError) else shown(sieve, answer)
    yield "metrics.txt", text_of(common, "/metrics", sieve)
    nodes = answers["nodes.json"]
    for node in nodes["nodes"] if isinstance(nodes, dict) else []:
        for name, path in OF_EACH.items():
            answer = asked(common, path.format(node=node["name"]))
            place = f"nodes/{node['name']}/{name}"
            if isinstance(answer, PgherdError):
                yield place, answer
            elif name.endswith(".log"):
                yield place, sieve.text("\n".join(answer["lines"])).encode()
            else:
                yield place, shown(sieve, answer)


def without_daemon(common: Common, sieve: Sieve) -> Iterator[tuple[str, bytes | PgherdError]]:
    """Of a node on its own: what doctor sees there."""
    from pgherd.cli.doctoring import alone

    config = find_config(common.config)
    away = is_sent_elsewhere(api_url=common.api_url, context=common.context)
    if config is None or away or not os.access(config, os.R_OK):
        return
    try:
        yield "doctor.json", shown(sieve, alone(config, None, quick=False))
    except PgherdError as error:
        yield "doctor.json", error


def asked(common: Common, path: str) -> Any:
    """The answer, or the error. That writes are not possible is an answer too."""
    accept = (503,) if path == PARTS["health.json"] else ()
    try:
        return common.api().call("GET", path, timeout_s=PATIENCE_S, accept=accept)
    except PgherdError as error:
        return error


def text_of(common: Common, path: str, sieve: Sieve) -> bytes | PgherdError:
    """An answer that is no JSON."""
    try:
        return sieve.text(common.api().text(path)).encode()
    except PgherdError as error:
        return error


def shown(sieve: Sieve, value: Any) -> bytes:
    return json.dumps(sieve.value(value), indent=1, ensure_ascii=False).encode()


def versions() -> dict[str, Any]:
    """What runs this command."""
    return {
        "pgherd": __version__,
        "python": sys.version,
        "system": platform.platform(),
        "machine": platform.machine(),
    }


def own_file(common: Common, sieve: Sieve) -> Iterator[tuple[str, bytes | PgherdError]]:
    """The configuration of this node, by its keys; comments may say anything, and stay here."""
    import yaml

    config = find_config(common.config)
    if config is None or is_sent_elsewhere(api_url=common.api_url, context=common.context):
        return
    try:
        read = yaml.safe_load(Path(config).read_text())
        text = yaml.safe_dump(sieve.value(read), sort_keys=False, allow_unicode=True)
        yield "configuration.yaml", text.encode()
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = getattr(error, "strerror", None) or "it cannot be read as YAML"
        yield "configuration.yaml", OperatorError(f"{config}: {why}", "pgherd config validate")


def known_secrets(common: Common) -> Iterator[str]:
    """Every secret that this machine knows, so that it is found wherever it turned up."""
    yield from (os.environ.get(name, "") for name in ("PGHERD_TOKEN", "PGPASSWORD"))
    try:
        yield common.target().token
    except PgherdError:
        pass
    config = find_config(common.config)
    if config is None or not os.access(config, os.R_OK):
        return
    try:
        settings = read_settings(config)
    except PgherdError:
        return
    from pgherd.observe.doctor.files import secret_files, secrets_of

    for secret in secrets_of(settings):
        try:
            yield secret.reveal()
        except PgherdError:
            continue
    for path in secret_files(settings, Path(config)):
        if path != Path(config):
            yield from lines_of(path)


def lines_of(path: Path) -> Iterator[str]:
    """The words of a file with secrets: all lines; of a passfile the fifth field of each too."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError):
        return
    for one in text.splitlines():
        if one.startswith("-----"):
            continue
        yield one
        fields = PASSFILE_FIELD.findall(one)
        if len(fields) == PASSFILE_FIELDS:
            yield re.sub(r"\\(.)", r"\1", fields[-1])


def write(path: Path, contents: dict[str, bytes], sieve: Sieve) -> None:
    """All of it, for nobody else to read. Raises BugError where a secret is left."""
    left = [name for name, content in contents.items() if sieve.leaks(content)]
    if left:
        raise BugError(f"a secret is left in {', '.join(left)}: nothing was written")
    folder = path.name.removesuffix(".tar.gz")
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as bundle:
            for name, content in sorted(contents.items()):
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mode, entry.mtime = len(content), 0o600, int(time.time())
                bundle.addfile(entry, io.BytesIO(content))
    except FileExistsError as error:
        raise OperatorError(f"{path} is there already", "name another with --out") from error
    except OSError as error:
        path.unlink(missing_ok=True)
        raise OperatorError(
            f"cannot write {path}: {error.strerror}", "name another place with --out"
        ) from error


COMMANDS: dict[str, Command] = {"report": report}
