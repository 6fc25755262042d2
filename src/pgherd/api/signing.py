"""`python -m pgherd.api.signing`: sign one certificate request, read from standard input.

Exists so that `cryptography` is loaded by a child that ends, and never by the agent. Exit 2: the
request itself is wrong, the reason is on standard error.
"""

from __future__ import annotations

import sys

import msgspec

from pgherd.api.joining import SIGN_REFUSED, SignOrder
from pgherd.model.errors import OperatorError
from pgherd.pki.authority import Authority, sign_request


def main() -> int:
    """Sign, and write the certificate to standard output."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=SignOrder)
    try:
        certificate = sign_request(
            Authority(order.ca.encode(), order.key.encode()),
            order.csr.encode(),
            node=order.node,
            hosts=order.hosts,
            days=order.days,
        )
    except OperatorError as error:
        print(error, file=sys.stderr)
        return SIGN_REFUSED
    sys.stdout.buffer.write(certificate)
    return 0


if __name__ == "__main__":
    sys.exit(main())
