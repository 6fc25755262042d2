"""What a plain stream shows of sessions that are silent by intent, or in the middle of a COPY.

Pure. Owns these few byte patterns, for a relay that passes bytes and parses none. They are looked
for at the ends of what was read, which is where servers and drivers put them; one that is cut, or
behind another message, is not seen, and then a timeout does not know of it. A terminated session
has a `tracker`, which sees all.
"""

from __future__ import annotations

TAIL_BYTES = 16
"""So much of a client's last bytes shows its end of a COPY, with the Sync and Flush behind it."""

_LISTENED = b"LISTEN\0"
_READY_BYTES = 6
_BEFORE_COPY = (b"1\0\0\0\x04", b"2\0\0\0\x04", b"n\0\0\0\x04")
"""ParseComplete, BindComplete, NoData: what the extended protocol says before."""

_COPY_DONE = b"c\0\0\0\x04"


def confirms_listen(said: bytes) -> bool:
    """Whether what a server said up to its ReadyForQuery ends with the confirmation of a LISTEN.

    UNLISTEN ends in the same letters, and who says it has listened.
    """
    return said[-len(_LISTENED) - _READY_BYTES : -_READY_BYTES] == _LISTENED


def begins_stream(said: bytes) -> bool:
    """Whether the server begins to stream WAL (CopyBothResponse)."""
    return said[:1] == b"W" and _is_whole(said)


def begins_copy_in(said: bytes) -> bool:
    """Whether the last thing that the server said is that it waits for COPY data."""
    at = 0
    while said[at : at + 5] in _BEFORE_COPY:
        at += 5
    return said[at : at + 1] == b"G" and _is_whole(said[at:])


def ends_copy_in(tail: bytes) -> bool:
    """Whether a client whose last bytes are these may have said that there is no more data."""
    return _COPY_DONE in tail


def _is_whole(message: bytes) -> bool:
    return len(message) >= 5 and int.from_bytes(message[1:5], "big") == len(message) - 1
