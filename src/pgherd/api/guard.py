"""Who may do what, and how often.

Owns bearer tokens with their roles, and the limit of tries per client address. Health checks are
never asked for a token and never limited (a limiter that also hits health checks takes the herd
out). Leaves issuing tokens to configuration.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Iterable
from enum import IntEnum

import msgspec
from fastapi import Request

from pgherd.api.failures import Problem

ADDRESSES_MAX = 4096
TOKEN_CHARACTERS_MAX = 512


class Role(IntEnum):
    """What a caller may do; each includes those before it."""

    VIEWER = 1
    OPERATOR = 2
    ADMIN = 3


class ApiToken(msgspec.Struct, frozen=True):
    """A token as configuration keeps it: by its hash."""

    name: str
    role: Role
    sha256: str


class Caller(msgspec.Struct, frozen=True):
    """Who asks."""

    name: str
    role: Role
    address: str

    def __str__(self) -> str:
        return f"{self.name} from {self.address}"


class Guard:
    """Knows the tokens; when there are none, everybody may do everything."""

    def __init__(self, tokens: Iterable[ApiToken]) -> None:
        self._tokens = tuple(tokens)

    def replace(self, tokens: Iterable[ApiToken]) -> None:
        """Take other tokens from now on, after a reload."""
        self._tokens = tuple(tokens)

    def admit(self, request: Request, *, role: Role) -> Caller:
        """The caller, or a Problem: 401 without a valid token, 403 with one that may not."""
        address = client_address(request)
        if not self._tokens:
            return Caller(name="anybody", role=Role.ADMIN, address=address)
        found = self._find(request.headers.get("authorization", ""))
        if found is None:
            raise Problem(
                401,
                "unauthenticated",
                "this needs a token of the API",
                hint="set PGHERD_TOKEN, or send Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if found.role < role:
            raise Problem(
                403,
                "not_authorised",
                f"{found.name} is {found.role.name.lower()}, this needs {role.name.lower()}",
                hint=f"use a token with the role {role.name.lower()}",
            )
        return Caller(name=found.name, role=found.role, address=address)

    def _find(self, header: str) -> ApiToken | None:
        scheme, _, given = header.partition(" ")
        if scheme.lower() != "bearer" or not given or len(given) > TOKEN_CHARACTERS_MAX:
            return None
        digest = hashlib.sha256(given.strip().encode()).hexdigest()
        found = None
        for token in self._tokens:  # all of them, so that time tells nothing
            if hmac.compare_digest(token.sha256.encode(), digest.encode()):
                found = token
        return found


class Limiter:
    """At most `most` tries a window from one address; remembers a bounded number of addresses."""

    def __init__(self, *, most: int, window_s: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._window_s = window_s
        self._clock = clock
        self._tries: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Count a try, or raise a Problem 429 that says when to come again."""
        now = self._clock()
        recent = [at for at in self._tries.pop(address, []) if now - at < self._window_s]
        self._tries[address] = recent
        while len(self._tries) > ADDRESSES_MAX:
            self._tries.popitem(last=False)
        if len(recent) >= self._most:
            wait_s = int(self._window_s - (now - recent[0])) + 1
            raise Problem(
                429,
                "too_many_requests",
                f"{address} has tried too often",
                hint=f"try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )
        recent.append(now)


def client_address(request: Request) -> str:
    """The address the request came from; headers that anybody can write are not believed."""
    return request.client.host if request.client is not None else "unknown"
