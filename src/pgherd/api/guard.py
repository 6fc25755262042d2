"""Who may do what, and how often.

Owns tokens and client certificates with their roles, and the limit of tries per client address.
Health checks are never asked for a token and never limited (a limiter that also hits health checks
takes the herd out). Leaves making tokens to `api.tokens`, and what is said of changes to `gate`.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping

import msgspec
from fastapi import Request

from pgherd.api.failures import Problem
from pgherd.model.rights import KeptToken
from pgherd.model.rights import Role as Role
from pgherd.pki.clients import shown

ADDRESSES_MAX = 4096
TOKEN_CHARACTERS_MAX = 512
CHANGES_PER_MINUTE = 100

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class ApiToken(msgspec.Struct, frozen=True):
    """A token as configuration keeps it: by its hash."""

    name: str
    role: Role
    sha256: str


class Access(msgspec.Struct, frozen=True):
    """What a node's file says of the API's callers, tokens apart.

    clients: roles of certificates by name, None: none · takes_certificates: whether clients are
    asked for one · allow: who may call at all, (): everybody.
    """

    clients: Mapping[str, Role | None] = {}
    takes_certificates: bool = False
    allow: tuple[IpNetwork, ...] = ()
    protect_reads: bool = True
    protect_metrics: bool = False
    changes_per_minute: int = CHANGES_PER_MINUTE


class Caller(msgspec.Struct, frozen=True):
    """Who asks. is_kept: by a token that the ledger keeps."""

    name: str
    role: Role
    address: str
    is_kept: bool = False

    def __str__(self) -> str:
        return f"{self.name} from {self.address}"


class Guard:
    """Knows tokens and certificates; when there are none, everybody may do everything.

    kept: the tokens of the ledger · knows: whether this node has heard of the ledger's tokens.
    """

    def __init__(
        self,
        tokens: Iterable[ApiToken],
        *,
        access: Access = Access(),  # noqa: B008 - a frozen value
        kept: Callable[[], tuple[KeptToken, ...]] = lambda: (),
        knows: Callable[[], bool] = lambda: True,
        unix_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._tokens = tuple(tokens)
        self.access = access
        self._kept = kept
        self._knows = knows
        self._unix_s = unix_s

    def replace(self, tokens: Iterable[ApiToken], access: Access | None = None) -> None:
        """Take other tokens from now on, after a reload."""
        self._tokens = tuple(tokens)
        self.access = access or self.access

    def of_file(self) -> tuple[ApiToken, ...]:
        """The tokens of this node's file."""
        return self._tokens

    def is_open(self) -> bool:
        """Whether nobody was ever given a right, so that everybody has all."""
        return not (self._tokens or self._kept() or self.access.takes_certificates)

    def has_admin(self) -> bool:
        """Whether a token of this node's file may do everything."""
        return any(one.role is Role.ADMIN for one in self._tokens)

    def admit(self, request: Request, *, role: Role) -> Caller:
        """The caller, or a Problem: 401 for who is not known, 403 for one that may not.

        Who it is stays with the request, for the audit record.
        """
        caller = self._recognise(request)
        if caller is None and role is Role.VIEWER and not self._is_protected(request):
            caller = self._anybody(request, Role.VIEWER)
        if caller is None:
            raise Problem(
                401,
                "unauthenticated",
                "this needs a token of the API",
                hint="set PGHERD_TOKEN, or send Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )
        request.state.caller = caller
        if caller.role < role and self.is_open():
            raise Problem(
                503,
                "not_ready",
                "this node has not heard from the cluster yet, nor whether it has tokens",
                hint="ask another member, or see: pgherd status",
            )
        if caller.role < role:
            raise Problem(
                403,
                "not_authorised",
                f"{caller.name} is {caller.role.word}, this needs {role.word}",
                hint=f"use a token with the role {role.word}",
            )
        return caller

    def may_look(self, request: Request) -> bool:
        """Whether this caller may read what only viewers may."""
        try:
            self.admit(request, role=Role.VIEWER)
        except Problem:
            return False
        return True

    def _recognise(self, request: Request) -> Caller | None:
        """A token counts before a certificate; a wrong one is nobody.

        A node that has not heard from the cluster does not know whether there are tokens.
        """
        if self.is_open():
            return self._anybody(request, Role.ADMIN if self._knows() else Role.VIEWER)
        header = request.headers.get("authorization", "")
        return self._by_token(request, header) if header else self._by_certificate(request)

    def _is_protected(self, request: Request) -> bool:
        """Whether a read needs a right; a wrong token is refused where none was needed."""
        return self.access.protect_reads or "authorization" in request.headers

    def _anybody(self, request: Request, role: Role) -> Caller:
        return Caller(name="anybody", role=role, address=client_address(request))

    def _by_token(self, request: Request, header: str) -> Caller | None:
        scheme, _, given = header.partition(" ")
        address = client_address(request)
        if scheme.lower() != "bearer" or not given or len(given) > TOKEN_CHARACTERS_MAX:
            return None
        digest = hashlib.sha256(given.strip().encode()).hexdigest().encode()
        found = None
        for token in self._tokens:  # all of them, so that time tells nothing
            if hmac.compare_digest(token.sha256.encode(), digest):
                found = Caller(token.name, token.role, address)
        unix_ms = int(self._unix_s() * 1000)
        for kept in self._kept():
            same = hmac.compare_digest(kept.sha256.encode(), digest)
            if same and not kept.is_over(unix_ms):
                found = Caller(kept.name, kept.role, address, is_kept=True)
        return found

    def _by_certificate(self, request: Request) -> Caller | None:
        """The file's word about a name counts before the mark that `pki issue` made."""
        one = shown(getattr(request.state, "certificate", None))
        if one is None or is_foreign(request):
            return None
        named = [name for name in one.names if name in self.access.clients]
        if named:
            role = self.access.clients[named[0]]
        else:
            role = {each.word: each for each in Role}.get(one.role)
        address = client_address(request)
        return Caller(one.name, role, address) if role is not None else None

    def lets_in(self, address: str) -> bool:
        """Whether somebody at this address may call at all."""
        if not self.access.allow:
            return True
        try:
            host = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        host = getattr(host, "ipv4_mapped", None) or host
        return host.is_loopback or any(host in network for network in self.access.allow)


class Limiter:
    """At most `most` tries a window from one address; remembers a bounded number of addresses.

    most: 0 for any number.
    """

    def __init__(self, *, most: int, window_s: float, clock: Callable[[], float]) -> None:
        self.most = most
        self._window_s = window_s
        self._clock = clock
        self._tries: OrderedDict[str, list[float]] = OrderedDict()

    def check(self, address: str) -> None:
        """Count a try, or raise a Problem 429 that says when to come again."""
        if not self.most:
            return
        now = self._clock()
        recent = [at for at in self._tries.pop(address, []) if now - at < self._window_s]
        self._tries[address] = recent
        while len(self._tries) > ADDRESSES_MAX:
            self._tries.popitem(last=False)
        if len(recent) >= self.most:
            wait_s = int(self._window_s - (now - recent[-self.most])) + 1
            raise Problem(
                429,
                "too_many_requests",
                f"{address} has tried too often",
                hint=f"try again in {wait_s} s",
                headers={"Retry-After": str(wait_s)},
            )
        recent.append(now)


def is_foreign(request: Request) -> bool:
    """Whether a browser asks on behalf of another site: it shows certificates by itself."""
    origin = request.headers.get("origin", "")
    return bool(origin) and origin.partition("://")[2] != request.headers.get("host")


def client_address(request: Request) -> str:
    """The address the request came from; headers that anybody can write are not believed."""
    return request.client.host if request.client is not None else "unknown"
