"""One POST over HTTP/1.1 with nothing but a socket: an agent carries no HTTP client.

Owns the request, its deadline and the status of the answer, of which nothing else is read.
Redirections are not followed: an event goes where it was configured to go, or nowhere.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

HEAD_BYTES_MAX = 16 << 10
STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
RETRY_AFTER = re.compile(rb"^retry-after:[ \t]*(\d{1,6})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class PostFailed(Exception):
    """No answer. The text says why, and never the address beyond its host."""


class Answered(msgspec.Struct, frozen=True):
    """A receiver's answer. retry_after_s: 0 where it does not say."""

    status: int
    retry_after_s: int = 0


async def post(
    url: str,
    body: bytes,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    context: ssl.SSLContext | None,
) -> Answered:
    """Send one body and return how it was answered. context: for https, which needs one."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    secure = parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    told = {
        "Host": parts.netloc,
        "Content-Type": "application/json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        **headers,
    }
    lines = [f"POST {target} HTTP/1.1", *(f"{name}: {value}" for name, value in told.items())]
    try:
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
        async with asyncio.timeout(timeout_s):
            return await _exchange(host, port, head + body, context=context if secure else None)
    except TimeoutError as error:
        raise PostFailed(f"{host}:{port} did not answer within {timeout_s:g} s") from error
    except ssl.SSLCertVerificationError as error:
        raise PostFailed(f"{host}:{port} is not trusted: {error.verify_message}") from error
    except UnicodeEncodeError as error:
        raise PostFailed(f"the address at {host} is not plain ASCII") from error
    except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise PostFailed(f"{host}:{port}: {error}") from error


async def _exchange(
    host: str, port: int, request: bytes, *, context: ssl.SSLContext | None
) -> Answered:
    reader, writer = await asyncio.open_connection(
        host,
        port,
        ssl=context,
        server_hostname=host if context is not None else None,
        limit=HEAD_BYTES_MAX,
    )
    try:
        writer.write(request)
        await writer.drain()
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            found = STATUS.match(head)
            if found is None:
                raise PostFailed(f"{host}:{port} does not speak HTTP")
            status = int(found[1])
            if status >= 200:
                later = RETRY_AFTER.search(head)
                return Answered(status, int(later[1]) if later is not None else 0)
    finally:
        writer.transport.abort()


def trust(ca: Path | None) -> ssl.SSLContext:
    """Whom https believes: reads files, so it belongs into a thread. Raises PostFailed."""
    try:
        return ssl.create_default_context(cafile=str(ca) if ca is not None else None)
    except (OSError, ssl.SSLError) as error:
        raise PostFailed(f"cannot read the CA certificates in {ca}: {error}") from error
