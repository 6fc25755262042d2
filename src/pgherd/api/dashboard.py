"""The dashboard at `/ui/`: the files that a browser needs, and nothing else.

Owns which files these are, and what a browser may do with them: no script, style or call that is
not this node's own, no script in the page, nobody's frame. The files hold no data, so they are open
to whoever may call at all; what they show they ask the API for, with the token that a person typed
in. Read from the package when they are asked for: an agent that nobody looks at keeps none of them.
"""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from pgherd.api.failures import Problem

FILES = Path(__file__).with_name("ui")
PAGE = "index.html"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
CONTENT_SECURITY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY,
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

router = APIRouter(include_in_schema=False)


@router.get("/ui")
async def to_page() -> Response:
    """Names in the page are relative to it."""
    return RedirectResponse("ui/", status_code=308, headers=HEADERS)


@router.get("/ui/")
@router.get("/ui/{name}")
async def file(request: Request, name: str = PAGE) -> Response:
    """One file; 304 where the browser has it as it is."""
    known = await asyncio.to_thread(names)
    if name not in known:
        raise Problem(404, "not_found", f"the dashboard has no {name[:64]}", hint="open /ui/")
    content = await asyncio.to_thread((FILES / name).read_bytes)
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=TYPES[Path(name).suffix], headers=headers)


def names() -> frozenset[str]:
    """The files that there are."""
    return frozenset(path.name for path in FILES.iterdir() if path.suffix in TYPES)
