#!/usr/bin/env python3
"""Receive pgherd's webhooks and post a line to a chat or pager that takes {"text": "..."}.

    HOOK_SECRET=...  CHAT_URL=https://chat.example/hook  webhook-to-chat.py [PORT]

Checks the signature and its age, drops what it has had before, and answers 503 while the chat
does not take the line, so that pgherd tries again. Put a proxy with TLS in front, or run it on
the machines themselves. Nothing but Python's standard library.
"""

import hashlib
import hmac
import json
import os
import sys
import time
import urllib.request
from collections import OrderedDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

AGE_S_MAX = 300
BODY_BYTES_MAX = 64 * 1024
IDS_MAX = 1000
seen: "OrderedDict[str, None]" = OrderedDict()


class Receiver(BaseHTTPRequestHandler):
    """One event for each POST."""

    timeout = 10

    def do_POST(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        if size > BODY_BYTES_MAX:
            self.answer(413)
            return
        body = self.rfile.read(size)
        if not genuine(self.headers, body):
            self.answer(401)
            return
        event = json.loads(body)
        if event["id"] in seen:
            self.answer(204)
            return
        try:
            tell(event)
        except OSError as error:
            print(f"the chat does not take it: {error}", file=sys.stderr)
            self.answer(503)
            return
        seen[event["id"]] = None
        while len(seen) > IDS_MAX:
            seen.popitem(last=False)
        self.answer(204)

    def answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def genuine(headers, body: bytes) -> bool:
    """Whether it was signed with our secret, not long ago."""
    at = headers.get("X-Pgherd-Timestamp", "")
    if not at.isdigit() or abs(time.time() - int(at)) > AGE_S_MAX:
        return False
    secret = os.environ["HOOK_SECRET"].encode()
    digest = hmac.new(secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(headers.get("X-Pgherd-Signature", ""), f"v1={digest}")


def tell(event: dict) -> None:
    """Post one line. Raises OSError where that does not work."""
    took = f" ({event['duration_ms']} ms)" if event["duration_ms"] is not None else ""
    text = f"[{event['cluster']}] {event['level']}: {event['kind']}: {event['text']}{took}"
    request = urllib.request.Request(
        os.environ["CHAT_URL"],
        data=json.dumps({"text": text}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10):
        pass


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 9300
    with ThreadingHTTPServer(("127.0.0.1", port), Receiver) as server:
        print(f"listening on {server.server_port}", flush=True)
        server.serve_forever()
