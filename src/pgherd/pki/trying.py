"""Whether the files of a node's TLS serve their purpose, tried by a handshake with itself.

Owns the try: what a peer would refuse (a foreign authority, an expired certificate, a key of
another) is found before a peer meets it. No socket is opened.
"""

from __future__ import annotations

import ssl

TURNS_MAX = 10


def refusal(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """Why a connection between these two would fail; "" where it would not."""
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(back, there, server_side=False, server_hostname="pgherd"),
        server.wrap_bio(there, back, server_side=True),
    ]
    for _ in range(TURNS_MAX):
        waits = False
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                waits = True
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
            except ssl.SSLError as error:
                return str(error.reason or error)
        if not waits:
            return ""
    return "the handshake does not end"
