"""The kinds of values that keys can have, and what is told about each key.

Owns parsing of one value (a port, a host, a secret, a duration) with an error that says what to
write, and `Key`: comment, reload class, lower limit and the reason for it. Leaves which keys exist
to `settings`.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler, PlainValidator
from pydantic_core import CoreSchema, core_schema

from pgherd.config.parameters import OWNED
from pgherd.config.problems import Wrong
from pgherd.config.units import format_duration, format_size, parse_duration_ms, parse_size_bytes
from pgherd.model.errors import OperatorError

SECRET_BYTES_MAX = 64 << 10
LATER = "is not available in this version"


class Change(StrEnum):
    """What a changed key needs before it has an effect.

    LIVE: nothing, the daemon applies it at once · RELOAD: the daemon reloads what it concerns
    (PostgreSQL, certificates) without cutting anybody · RESTART: a restart of this node's daemon.
    """

    LIVE = "live"
    RELOAD = "reload"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Key:
    """What people are told about a key. least, most: limits in its unit, why: their reason."""

    comment: str
    change: Change = Change.RESTART
    unit: str = ""
    least: int | None = None
    most: int | None = None
    why: str = ""
    later: tuple[str, ...] = ()
    """Values that belong to a later version and are refused with that word."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        inner = handler(source)
        if self.later:
            words = " or ".join(str(word) for word in get_args(source))
            refuse = partial(self._refuse_later, words)
            inner = core_schema.no_info_before_validator_function(refuse, inner)
        if self.least is not None or self.most is not None:
            inner = core_schema.no_info_after_validator_function(self._within, inner)
        return inner

    def written(self, value: object) -> str:
        """A value of this key in its unit, as people write it."""
        if isinstance(value, int) and self.unit == "duration":
            return format_duration(value)
        if isinstance(value, int) and self.unit == "size":
            return format_size(value)
        return str(value)

    def _refuse_later(self, words: str, value: object) -> object:
        if isinstance(value, str) and value in self.later:
            raise Wrong(f"{value} {LATER}", f"write {words}")
        return value

    def _within(self, value: object) -> object:
        if not isinstance(value, int):
            return value
        why = f": {self.why}" if self.why else ""
        if self.least is not None and value < self.least:
            limit = self.written(self.least)
            raise Wrong(f"{self.written(value)} is too little", f"at least {limit}{why}")
        if self.most is not None and value > self.most:
            limit = self.written(self.most)
            raise Wrong(f"{self.written(value)} is too much", f"at most {limit}{why}")
        return value


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A password: `file:/path`, `env:NAME`, or the text itself. Never shown."""

    kind: Literal["file", "env", "text"]
    reference: str

    def reveal(self, env: Mapping[str, str] | None = None) -> str:
        """The secret itself, read anew at each call; OperatorError when it cannot be read."""
        if self.kind == "text":
            return self.reference
        if self.kind == "env":
            value = (os.environ if env is None else env).get(self.reference)
            if not value:
                raise OperatorError(
                    f"environment variable {self.reference} is empty",
                    "set it in the service's environment, or use file:/path",
                )
            return value
        try:
            text = Path(self.reference).read_bytes()[: SECRET_BYTES_MAX + 1].decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise OperatorError(
                f"cannot read the secret in {self.reference}: {why}",
                "make the file readable by the user that pgherd runs as",
            ) from error
        if not text or "\n" in text or len(text) > SECRET_BYTES_MAX:
            raise OperatorError(f"{self.reference} does not hold one line with the secret")
        return text

    def shown(self) -> str:
        """The reference as it was written; a literal text is hidden."""
        return "(hidden)" if self.kind == "text" else f"{self.kind}:{self.reference}"

    def __repr__(self) -> str:
        return f"Secret({self.shown()})"

    __str__ = __repr__


@dataclass(frozen=True, slots=True)
class Seat:
    """One entry of `raft.members`: `name=host:port`."""

    name: str
    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.name}={join_host_port(self.host, self.port)}"


def join_host_port(host: str, port: int) -> str:
    """`host:port`, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(text: str) -> tuple[str, int]:
    """Read `host:port` or `[v6]:port`."""
    found = re.fullmatch(r"(?:\[([^\]]+)\]|([^:\[\]]+)):(\d{1,5})", text)
    if found is None:
        raise Wrong(f"{text!r} is not host:port", "IPv6 addresses take brackets: [fd00::1]:8300")
    return parse_host(found[1] or found[2]), parse_port(int(found[3]))


_HOST_NAME = re.compile(r"(?=.{1,253}\Z)(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


def parse_host(text: object) -> str:
    """An IPv4 or IPv6 address or a host name, without port or brackets."""
    if not isinstance(text, str) or not text:
        raise Wrong("is not an address", "write an IPv4 or IPv6 address or a host name")
    if text.startswith("[") and text.endswith("]"):
        raise Wrong(f"{text} has brackets", f"write {text[1:-1]}")
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        pass
    if re.fullmatch(r".*[^:]:\d+", text):
        raise Wrong(
            f"{text} carries a port", "write the address alone; each channel has its port key"
        )
    if re.fullmatch(r"[\d.]+", text) or not _HOST_NAME.fullmatch(text):
        raise Wrong(f"{text!r} is not an address", "write an IPv4 or IPv6 address or a host name")
    return text


def parse_network(value: object) -> str:
    """Addresses that begin alike: 10.0.1.0/24, fd00::/8; one address stands for itself."""
    if not isinstance(value, str):
        raise Wrong(f"{value!r} is not a network", "write 10.0.1.0/24, fd00::/8 or one address")
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise Wrong(
            f"{value!r} is not a network", "write 10.0.1.0/24, fd00::/8 or one address"
        ) from None
    raise Wrong(f"{value} has bits behind its prefix", f"write {meant}")


def is_wildcard(host: str) -> bool:
    """Whether an address means every interface."""
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_port(value: object) -> int:
    """A TCP port."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise Wrong(f"{value!r} is not a port", "write a number from 1 to 65535")
    return value


def parse_secret(value: object) -> Secret:
    """A secret or a reference to one; the value never appears in the error."""
    if not isinstance(value, str) or not value:
        raise Wrong("is not text", "write file:/path, env:NAME, or the secret in quotes")
    for kind in ("file", "env"):
        if value.startswith(f"{kind}:"):
            reference = value.partition(":")[2]
            if kind == "file" and not reference.startswith("/"):
                raise Wrong(f"{value} is not an absolute path", "write file:/etc/pgherd/name")
            if kind == "env" and not re.fullmatch(r"[A-Za-z_]\w*", reference):
                raise Wrong(f"{value} names no variable", "write env:NAME")
            return Secret("file" if kind == "file" else "env", reference)
    return Secret("text", value)


def parse_path(value: object) -> Path:
    """An absolute path; nothing is expanded."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise Wrong(f"{value!r} is not an absolute path", "start it with /")
    return Path(value)


def parse_seat(value: object) -> Seat:
    """One `name=host:port`."""
    name, equals, rest = value.partition("=") if isinstance(value, str) else ("", "", "")
    if not equals:
        raise Wrong(f"{value!r} is not name=host:port", "as in n1=10.0.1.1:8300")
    host, port = split_host_port(rest.strip())
    return Seat(name.strip(), host, port)


def parse_flag(value: object) -> bool:
    """true or false; on/off and yes/no are understood."""
    words = {"on": True, "yes": True, "off": False, "no": False}
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise Wrong(f"{value!r} is neither true nor false", "write true or false")


def parse_millis_or_auto(value: object) -> int | Literal["auto"]:
    """A duration, or `auto`."""
    if value == "auto":
        return "auto"
    found: int = _or_wrong(parse_duration_ms)(value)
    return found


def parse_parameter(value: object) -> str:
    """The value of a PostgreSQL parameter as text, numbers and switches included."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str) and "\n" not in value and "\0" not in value:
        return value
    raise Wrong("is not one value", "write a number, a text, or true or false")


def parse_parameter_name(value: object) -> str:
    """The name of a PostgreSQL parameter that is the operator's to set."""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][\w.$]*", value):
        raise Wrong(f"{value!r} is not the name of a parameter", "as SHOW ALL lists them")
    if value.lower() in OWNED:
        raise Wrong("belongs to pgherd", f"remove it: {OWNED[value.lower()]}")
    return value.lower()


def parse_bin_dir(value: object) -> Path | Literal["auto"]:
    """The directory of PostgreSQL's binaries, or `auto`."""
    if value == "auto":
        return "auto"
    try:
        return parse_path(value)
    except Wrong as wrong:
        raise Wrong(wrong.message, "write auto, or a path from /") from None


def parse_num_sync(value: object) -> int | Literal["auto"]:
    """A number of replicas, or `auto`."""
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Wrong(f"{value!r} is not a number of replicas", "write auto, or a whole number")


def _or_wrong(parse: Callable[[object], int]) -> Callable[[object], int]:
    def checked(value: object) -> int:
        try:
            return parse(value)
        except ValueError as error:
            message, _, hint = str(error).partition(": ")
            raise Wrong(message, hint) from None

    return checked


def whole_path(value: tuple[str, ...]) -> tuple[str, ...]:
    """A command of the operator's, or none: it runs where no PATH is known."""
    if value and not value[0].startswith("/"):
        raise Wrong("names no program", "write its whole path first: [/usr/local/bin/restore]")
    return value


Program = Annotated[tuple[str, ...], AfterValidator(whole_path)]
Millis = Annotated[int, BeforeValidator(_or_wrong(parse_duration_ms))]
MillisOrAuto = Annotated[int | Literal["auto"], PlainValidator(parse_millis_or_auto)]
Bytes = Annotated[int, BeforeValidator(_or_wrong(parse_size_bytes))]
Port = Annotated[int, PlainValidator(parse_port)]
Host = Annotated[str, PlainValidator(parse_host)]
NetworkRef = Annotated[str, PlainValidator(parse_network)]
SecretRef = Annotated[Secret, PlainValidator(parse_secret)]
FilePath = Annotated[Path, PlainValidator(parse_path)]
SeatRef = Annotated[Seat, PlainValidator(parse_seat)]
Flag = Annotated[bool, PlainValidator(parse_flag)]
ParameterName = Annotated[str, PlainValidator(parse_parameter_name)]
BinDir = Annotated[Path | Literal["auto"], PlainValidator(parse_bin_dir)]
NumSync = Annotated[int | Literal["auto"], PlainValidator(parse_num_sync)]
Parameter = Annotated[str, PlainValidator(parse_parameter)]
