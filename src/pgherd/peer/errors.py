"""Why a request to a peer has no answer."""

from __future__ import annotations

from pgherd.model.errors import PeerError


class PeerUnreachable(PeerError):
    """No answer. sent: it may have been carried out all the same; False: it never left."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


class PeerRefused(PeerError):
    """The peer answered that it will not, and why. A request handler raises it to refuse."""
