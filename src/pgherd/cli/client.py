"""Asking a daemon: where it is, who asks, and what its errors mean for the exit code.

Owns the search for the API (option, environment, configuration file) and the translation of the
API's errors. Every daemon answers every call, so the first that answers is asked.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.cli.start import CONFIG_DEFAULT, find_config
from pgherd.model.errors import OperatorError, PgherdError

if TYPE_CHECKING:
    import ssl

    import httpx2

    from pgherd.config.settings import Settings

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 15.0
SILENCE_S = 45.0
"""A stream gives a sign of life every 15 s."""
PEM = "-----BEGIN"
URL_DEFAULT = "http://127.0.0.1:8008"

DONE, FAILED, USAGE, REFUSED, NO_QUORUM, TIMED_OUT, NOT_AUTHORISED = range(7)
"""Exit codes (SURFACE.md 2)."""


class ApiError(PgherdError):
    """The API said no, or nothing. code: the API's word; exit: the process's exit code."""

    def __init__(self, message: str, hint: str, *, code: str, exit_code: int) -> None:
        super().__init__(message, hint)
        self.code = code
        self.exit = exit_code


class NotConfirmed(PgherdError):
    """The first of two steps ends here: it has told, and changed nothing."""

    exit_code = REFUSED


class Target(msgspec.Struct, frozen=True):
    """Where and as whom to ask. ca: PEM, or a file of it, to trust; "" = what the system trusts ·
    cert, key: files of a client certificate, "" for none.
    """

    urls: tuple[str, ...]
    token: str = ""
    ca: str = ""
    cert: str = ""
    key: str = ""


def find_target(*, api_url: str | None, config: str | None, context: str | None = None) -> Target:
    """From the option, the context, PGHERD_API_URL, the configuration, or the last login.

    What the environment says of token, CA and certificate comes before what is kept somewhere.
    """
    if api_url and context:
        raise OperatorError(
            "--api-url and --context name two places to ask", "leave one of them out"
        )
    context = context or (os.environ.get("PGHERD_CONTEXT") if not api_url else None)
    if context:
        return with_environment(from_context(context))
    named = api_url or os.environ.get("PGHERD_API_URL")
    found = find_config(config)
    if config is not None and not Path(config).exists():
        raise OperatorError(f"there is no configuration at {config}", "name another with --config")
    settings = read_settings(found) if found is not None and readable(found) else None
    if not named and settings is None and (kept := from_context(None)).urls:
        return with_environment(kept)
    if named:
        urls = tuple(url.strip().rstrip("/") for url in named.split(",") if url.strip())
    else:
        urls = (url_of(settings),) if settings is not None else (URL_DEFAULT,)
    token = ca = ""
    if settings is not None and found is not None:
        token = local_token(Path(found))
        ca = str(settings.raft.tls.ca) if settings.raft.tls is not None else ""
    return with_environment(Target(urls=urls, token=token, ca=ca))


def with_environment(kept: Target) -> Target:
    """What to show and whom to trust: a certificate of the environment goes before a kept token."""
    cert, key = os.environ.get("PGHERD_CERT", ""), os.environ.get("PGHERD_KEY", "")
    token = os.environ.get("PGHERD_TOKEN") or ("" if cert else kept.token)
    ca = os.environ.get("PGHERD_CA") or kept.ca
    return Target(urls=kept.urls, token=token, ca=ca, cert=cert, key=key)


def is_sent_elsewhere(*, api_url: str | None, context: str | None) -> bool:
    """Whether an address was named: what answers there need not be this node's cluster."""
    return bool(
        api_url or context or os.environ.get("PGHERD_CONTEXT") or os.environ.get("PGHERD_API_URL")
    )


def from_context(name: str | None) -> Target:
    """Where a login led, the last one unless it is named; without urls where there was none."""
    from pgherd.cli.contexts import target_of

    return target_of(name) or Target(urls=())


def own_file(given: str | None) -> str:
    """This node's configuration file, for a command that works on its directories."""
    path = find_config(given)
    if path is None:
        raise OperatorError(f"there is no configuration at {CONFIG_DEFAULT}", "name it: --config")
    return path


def readable(path: str) -> bool:
    return os.access(path, os.R_OK)


def read_settings(path: str) -> Settings:
    from pgherd.config.load import load

    return load(path, os.environ, check_files=False)


def url_of(settings: Settings) -> str:
    """The address of the API that a configuration describes, as reached from this machine."""
    host = here(settings.api_bind())
    scheme = "https" if settings.api.tls is not None else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.api.port}"


def here(host: str) -> str:
    """An address that something of this machine is bound to, as one to connect to from here."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def local_token(config: Path) -> str:
    """The token that `init` or `join` left beside the configuration, if we may read it."""
    for name in ("admin.token", "local.token"):
        try:
            return (config.parent / "secrets" / name).read_text().strip()
        except OSError:
            continue
    return ""


class Api:
    """The API of the first daemon that answers."""

    def __init__(self, target: Target, *, timeout_s: float = ANSWER_TIMEOUT_S) -> None:
        self._target = target
        self._timeout_s = timeout_s

    def get(self, path: str, **params: Any) -> Any:
        """Ask, and return the answer's JSON."""
        return self.call("GET", path, params=params)

    def post(self, path: str, body: Any = None, *, timeout_s: float | None = None) -> Any:
        """Ask for a change, and return the answer's JSON."""
        return self.call("POST", path, body=body, timeout_s=timeout_s)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, Any] | None = None,
        body: Any = None,
        timeout_s: float | None = None,
        accept: tuple[int, ...] = (),
    ) -> Any:
        """One request. accept: error statuses whose body is the answer all the same."""
        with self._client(timeout_s or self._timeout_s) as client:
            response = self._first(
                lambda url: client.request(method, url + path, params=params, json=body)
            )
            return read_answer(response, accept=accept)

    def text(self, path: str) -> str:
        """An answer that is no JSON, as it came."""
        with self._client(self._timeout_s) as client:
            response = self._first(lambda url: client.get(url + path))
            if response.status_code >= 400:
                read_answer(response)
            return response.text

    @contextmanager
    def stream(
        self, path: str, *, params: dict[str, Any], headers: dict[str, str]
    ) -> Iterator[Iterator[str]]:
        """The lines of an answer that goes on; it ends where the daemon ends it."""
        import httpx2

        with self._client(SILENCE_S) as client:

            def ask(url: str) -> httpx2.Response:
                told = {**headers, "Accept": "text/event-stream"}
                request = client.build_request("GET", url + path, params=params, headers=told)
                return client.send(request, stream=True)

            response = self._first(ask)
            try:
                if response.status_code >= 400:
                    response.read()
                    read_answer(response)
                yield response.iter_lines()
            except httpx2.HTTPError as error:
                raise unreachable((str(response.url.copy_with(query=None)),), error) from error
            finally:
                response.close()

    def _client(self, timeout_s: float) -> httpx2.Client:
        import httpx2

        return httpx2.Client(
            headers=bearer(self._target.token),
            timeout=httpx2.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S),
            verify=trust(self._target.ca, cert=self._target.cert, key=self._target.key),
            trust_env=False,
        )

    def _first(self, ask: Callable[[str], httpx2.Response]) -> httpx2.Response:
        """The answer of the first daemon that takes a connection."""
        import httpx2

        trouble: Exception | None = None
        for url in self._target.urls:
            try:
                return ask(url)
            except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                trouble = error
            except httpx2.TimeoutException as error:
                raise late(url) from error
            except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                raise unreachable((url,), error) from error
        raise unreachable(self._target.urls, trouble) from trouble


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token; none without one."""
    if not (token.isascii() and token.isprintable()):
        raise OperatorError(
            "the token has characters that no token has",
            "copy it anew: PGHERD_TOKEN, or pgherd login",
        )
    return {"Authorization": f"Bearer {token}"} if token else {}


def trust(ca: str, *, cert: str = "", key: str = "") -> ssl.SSLContext | bool:
    """Whom to believe, and what to show."""
    if not ca and not cert:
        return True
    import ssl

    context = ssl.create_default_context()
    try:
        if ca.startswith(PEM):
            context.load_verify_locations(cadata=ca)
        elif ca:
            context.load_verify_locations(ca)
    except OSError as error:
        raise OperatorError(
            f"cannot use the CA certificate {ca if not ca.startswith(PEM) else 'of the context'}:"
            f" {error}",
            "name ca.crt of any node: PGHERD_CA, or pgherd login URL --ca FILE",
        ) from error
    try:
        if cert:
            context.load_cert_chain(cert, key or None)
    except OSError as error:
        raise OperatorError(
            f"the client certificate {cert} cannot be used: {error}",
            "set PGHERD_CERT and PGHERD_KEY to files that were issued together",
        ) from error
    return context


def read_answer(response: httpx2.Response, *, accept: tuple[int, ...] = ()) -> Any:
    """The JSON of an answer, or an ApiError with the exit code that its meaning has."""
    try:
        value = response.json()
    except ValueError:
        value = None
    if response.status_code < 400 or (response.status_code in accept and value is not None):
        if value is None:
            raise ApiError(
                "the answer is not JSON; is this a pgherd API?",
                "check the address: pgherd status --api-url URL",
                code="not_json",
                exit_code=FAILED,
            )
        return value
    told = value if isinstance(value, dict) else {}
    code = str(told.get("code", response.status_code))
    message = str(told.get("message") or f"the API answered {response.status_code}")
    hint = str(told.get("hint") or "pgherd status")
    raise ApiError(message, hint, code=code, exit_code=exit_code(response.status_code, code))


def exit_code(status: int, code: str) -> int:
    """What an API error means for whoever called the command."""
    if code in ("no_quorum", "timed_out"):
        return NO_QUORUM if code == "no_quorum" else TIMED_OUT
    by_status = {
        400: USAGE,
        401: NOT_AUTHORISED,
        403: NOT_AUTHORISED,
        404: USAGE,
        409: REFUSED,
        412: REFUSED,
        422: USAGE,
        429: REFUSED,
    }
    return by_status.get(status, FAILED)


def late(url: str) -> ApiError:
    return ApiError(
        f"{url} did not answer in time", "pgherd status", code="timed_out", exit_code=TIMED_OUT
    )


def unreachable(urls: tuple[str, ...], why: Exception | None) -> ApiError:
    return ApiError(
        f"no daemon answers at {', '.join(urls)}: {why}",
        "start one: pgherd start; or name another: --api-url URL, or pgherd login URL",
        code="unreachable",
        exit_code=FAILED,
    )
