"""Proves that what a relay says itself has PostgreSQL's form, whatever the texts hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pgherd.wire.answer import TEXT_BYTES_MAX, Refusal, error_response


def test_an_error_has_its_fields_in_order() -> None:
    """Severity twice (translated and not), SQLSTATE, message, hint."""
    raw = error_response(Refusal("57P03", "no primary", "wait"))
    assert raw[:1] == b"E"
    assert int.from_bytes(raw[1:5], "big") == len(raw) - 1
    assert raw[5:] == b"SFATAL\0VFATAL\0C57P03\0Mno primary\0Hwait\0\0"


@given(st.text(max_size=3000), st.text(max_size=50))
def test_any_text_gives_a_well_formed_error(message: str, hint: str) -> None:
    """No zero byte and no endless text gets into a field, and every field decodes."""
    raw = error_response(Refusal("57P01", message, hint))
    assert int.from_bytes(raw[1:5], "big") == len(raw) - 1
    parts = raw[5:].split(b"\0")
    assert parts[-2:] == [b"", b""]
    for part in parts[:-2]:
        part.decode()
        assert len(part) <= TEXT_BYTES_MAX + 1
