"""One line per event on stderr: a noun and a verb in the past, with fields, as logfmt.

The supervisor collects it. Owns only the form; structlog is too heavy for the proxy.
"""

from __future__ import annotations

from pgherd.telemetry import stderr

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.:/-@[]*")


def say(event: str, **fields: object) -> None:
    """Write an event."""
    text = " ".join([event, *(f"{name}={_value(value)}" for name, value in fields.items())])
    stderr.say(text)  # sessions matter more than a line that nobody takes


def _value(value: object) -> str:
    text = str(value)
    if text and _PLAIN.issuperset(text):
        return text
    shown = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + "".join(one if one.isprintable() else f"\\x{ord(one):02x}" for one in shown) + '"'
