"""The operator's own programs and receivers: callbacks, `pre_promote`, webhooks.

Owns the values of `hooks`. When a program runs is decided by `daemon.callbacks` and, before a
promotion, by `daemon.preparing`; what is sent by `daemon.webhooks`.
"""

from __future__ import annotations

import ipaddress
import os
import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, field_validator

from pgherd.config.fields import Change, FilePath, Key, Millis, Secret, SecretRef
from pgherd.config.problems import Wrong
from pgherd.config.section import Section
from pgherd.config.source import Path
from pgherd.model.eventkinds import CLUSTER, NODE

if TYPE_CHECKING:
    from pgherd.config.settings import Settings

LIVE = Change.LIVE
WEBHOOKS_MAX = 8
EXAMPLE = "write its whole path first: [/usr/local/bin/told]"


class Program(Section):
    """A program that is told of something."""

    command: Annotated[
        tuple[str, ...],
        Key("Program and first arguments; action, role and cluster follow them.", LIVE),
    ]
    deadline_ms: Annotated[
        Millis,
        Key(
            "Time after which it is killed with all that it started; 30s unless said.",
            LIVE,
            unit="duration",
            least=100,
            most=3_600_000,
            why="a program on a busy node takes this long to start",
        ),
    ] = 30_000

    @field_validator("command", mode="after")
    @classmethod
    def _program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or not value[0].startswith("/"):
            raise Wrong("names no program", EXAMPLE)
        return value


def as_program(value: Any) -> Any:
    """A program may be written as a line, as a list, or as a map with its deadline."""
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise Wrong(f"cannot be read as a command: {error}", EXAMPLE) from None
        return {"command": tuple(words)}
    return {"command": tuple(value)} if isinstance(value, list | tuple) else value


class BeforePromotion(Program):
    """The program that may refuse a promotion."""

    deadline_ms: Annotated[
        Millis,
        Key(
            "Time after which it is killed, and the promotion goes on; 10s unless said.",
            LIVE,
            unit="duration",
            least=100,
            most=120_000,
            why="nobody can write meanwhile, and the others must not give the winner up",
        ),
    ] = 10_000


Callback = Annotated[Program, BeforeValidator(as_program)]


class Webhook(Section):
    """A receiver of events over HTTP."""

    name: Annotated[str, Key("What it is called in logs and metrics; its host unless said.")] = ""
    url: Annotated[
        SecretRef,
        Key("Where events are posted: https://..., or file:/path or env:NAME that hold it."),
    ]
    secret: Annotated[
        SecretRef | None,
        Key("Key of the signature (HMAC-SHA256): file:/path or env:NAME; null: not signed."),
    ] = None
    events: Annotated[
        tuple[str, ...],
        Key("Kinds that are sent, * for any part of a name; [*] unless said."),
    ] = ("*",)
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Key("Least important event that is sent; info unless said."),
    ] = "info"
    timeout_ms: Annotated[
        Millis,
        Key(
            "Time for one try; 10s unless said.",
            unit="duration",
            least=100,
            most=120_000,
            why="a receiver far away takes this long to answer",
        ),
    ] = 10_000
    give_up_ms: Annotated[
        Millis,
        Key(
            "Age of an event at which it is not tried again; 1h unless said.",
            unit="duration",
            least=1000,
            why="what a receiver does not take at its first try has to have another",
        ),
    ] = 3_600_000
    ca: Annotated[
        FilePath | None, Key("CA certificates that it is checked against; null: the system's.")
    ] = None

    @field_validator("url", mode="after")
    @classmethod
    def _address(cls, value: Secret) -> Secret:
        if value.kind == "text" and problem(value.reference):
            raise Wrong(problem(value.reference), "as in https://alerts.example/hook")
        return value

    @field_validator("events", mode="after")
    @classmethod
    def _kinds(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            if "*" not in one and one not in {*CLUSTER, *NODE}:
                raise Wrong(f"{one} is no kind of event", "docs/reference/events.md lists them")
        return value


def problem(url: str) -> str:
    """Why a text is no address of a receiver, without repeating it; "" where it is one."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is not an address"
    if parts.scheme not in ("https", "http") or not host:
        return "is not an address of HTTP"
    if parts.username or parts.password:
        return "has a password in it, which belongs into the secret"
    if parts.scheme == "http" and not is_near(host):
        return "is not encrypted: plain http is for this machine and private networks"
    return ""


def is_near(host: str) -> bool:
    """Whether a host is this machine or in a private network, as far as its name says."""
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".lan"))


class Hooks(Section):
    """Programs that are run and receivers that are told when something happens."""

    pre_promote: Annotated[
        Annotated[BeforePromotion, BeforeValidator(as_program)] | None,
        Key(
            "Program that an elected winner runs before its server is promoted: a path with"
            " arguments, or {command, deadline}. Another exit code than 0 refuses; at its deadline"
            " the promotion goes on.",
            LIVE,
        ),
    ] = None
    on_role_change: Annotated[
        Callback | None,
        Key("Program that is run when this node has become primary or replica.", LIVE),
    ] = None
    on_start: Annotated[
        Callback | None, Key("The same when PostgreSQL takes connections here.", LIVE)
    ] = None
    on_stop: Annotated[
        Callback | None, Key("The same when PostgreSQL does not run here any more.", LIVE)
    ] = None
    on_restart: Annotated[
        Callback | None,
        Key("In place of on_stop and on_start, for a restart that was asked for.", LIVE),
    ] = None
    on_reload: Annotated[
        Callback | None,
        Key("When PostgreSQL here was told to read its configuration again.", LIVE),
    ] = None
    on_switchover: Annotated[
        Callback | None,
        Key("On every node when a switchover is done.", LIVE),
    ] = None
    on_failover: Annotated[
        Callback | None,
        Key("On every node when another one leads without having been asked to.", LIVE),
    ] = None
    webhook: Annotated[
        tuple[Webhook, ...],
        Key("Receivers of events: {url, secret, events, level, timeout, give_up, ca, name}.", LIVE),
    ] = ()

    @field_validator("webhook", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, Mapping) else value

    @field_validator("webhook", mode="after")
    @classmethod
    def _few(cls, value: tuple[Webhook, ...]) -> tuple[Webhook, ...]:
        if len(value) > WEBHOOKS_MAX:
            raise Wrong(f"has {len(value)} receivers", f"at most {WEBHOOKS_MAX}")
        return value


def program_problems(settings: Settings) -> Iterator[tuple[Path, str, str]]:
    """Programs of hooks that could not be run here now; asked when a person checks a file."""
    for name in Hooks.model_fields:
        program = getattr(settings.hooks, name)
        if not isinstance(program, Program):
            continue
        file = program.command[0]
        if not os.access(file, os.X_OK) or os.path.isdir(file):
            yield ("hooks", name), f"{file} is no program", f"put it there, and: chmod +x {file}"
