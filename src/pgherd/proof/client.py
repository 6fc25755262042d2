"""Ask one daemon over HTTP, with nothing but the standard library.

Owns one request and its deadline. Leaves which daemon to ask, and asking again, to `herd`.
"""

from __future__ import annotations

import http.client
import json
from typing import Any

TIMEOUT_S = 2.0
ANSWER_BYTES_MAX = 8 << 20


class NoAnswer(Exception):
    """The daemon did not answer, or said no: `status` is 0 without an answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}" if status else message)
        self.status = status


def ask(
    host: str,
    port: int,
    path: str,
    *,
    method: str = "GET",
    body: dict[str, Any] | None = None,
    token: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Any:
    """One request; the answer's JSON, or NoAnswer."""
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    content = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        content = json.dumps(body).encode()
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request(method, path, body=content, headers=headers)
        answer = connection.getresponse()
        text = answer.read(ANSWER_BYTES_MAX)
    except (OSError, http.client.HTTPException) as error:
        raise NoAnswer(0, f"{host}:{port} {error!r}") from error
    finally:
        connection.close()
    if answer.status >= 400:
        raise NoAnswer(answer.status, text.decode(errors="replace")[:500])
    try:
        return json.loads(text) if text else {}
    except ValueError as error:
        raise NoAnswer(answer.status, f"{path}: not JSON") from error
