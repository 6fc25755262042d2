"""Asking a daemon: where it is, who asks, and what its errors mean for the exit code.

Owns the search for the API (option, environment, configuration file) and the translation of the
API's errors. Every daemon answers every call, so the first that answers is asked.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pgherd.cli.start import CONFIG_DEFAULT, find_config
from pgherd.model.errors import OperatorError, PgherdError

if TYPE_CHECKING:
    import httpx2

    from pgherd.config.settings import Settings

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 15.0
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
    """Where and as whom to ask. ca: PEM file to trust, "" for what the system trusts."""

    urls: tuple[str, ...]
    token: str = ""
    ca: str = ""


def find_target(*, api_url: str | None, config: str | None) -> Target:
    """From the option, PGHERD_API_URL or the configuration; the last also knows CA and token."""
    token = os.environ.get("PGHERD_TOKEN", "")
    ca = os.environ.get("PGHERD_CA", "")
    named = api_url or os.environ.get("PGHERD_API_URL")
    found = find_config(config)
    if config is not None and not Path(config).exists():
        raise OperatorError(f"there is no configuration at {config}", "name another with --config")
    settings = read_settings(found) if found is not None and readable(found) else None
    if settings is not None and found is not None:
        token = token or local_token(Path(found))
        ca = ca or (str(settings.raft.tls.ca) if settings.raft.tls is not None else "")
    if named:
        urls = tuple(url.strip().rstrip("/") for url in named.split(",") if url.strip())
    else:
        urls = (url_of(settings),) if settings is not None else (URL_DEFAULT,)
    return Target(urls=urls, token=token, ca=ca)


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
    host = settings.api_bind()
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    scheme = "https" if settings.api.tls is not None else "http"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.api.port}"


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
        import httpx2

        headers = {"Authorization": f"Bearer {self._target.token}"} if self._target.token else {}
        timeout = httpx2.Timeout(timeout_s or self._timeout_s, connect=CONNECT_TIMEOUT_S)
        verify = trust(self._target.ca)
        trouble: Exception | None = None
        with httpx2.Client(
            headers=headers, timeout=timeout, verify=verify, trust_env=False
        ) as client:
            for url in self._target.urls:
                try:
                    response = client.request(method, url + path, params=params, json=body)
                except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                    trouble = error
                    continue
                except httpx2.TimeoutException as error:
                    raise late(url) from error
                except (httpx2.HTTPError, httpx2.InvalidURL) as error:
                    raise unreachable((url,), error) from error
                return read_answer(response, accept=accept)
        raise unreachable(self._target.urls, trouble) from trouble


def trust(ca: str) -> ssl.SSLContext | bool:
    if not ca:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        raise OperatorError(f"cannot read the CA certificate {ca}: {error}") from error
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
        "start one: pgherd start; or name another: --api-url URL",
        code="unreachable",
        exit_code=FAILED,
    )
