"""Proves what a moved session is given, and what its client hears of it."""

from __future__ import annotations

import pytest

from pgherd.wire.renewal import Renewal, RenewalImpossible

TOLD = {"server_version": "15.1", "TimeZone": "UTC", "session_authorization": "ann"}
READY = b"Z\x00\x00\x00\x05I"
PARSE = b"P\x00\x00\x00\x0fone\0SELECT\0\0\0"


def status(name: str, value: str) -> bytes:
    body = f"{name}\0{value}\0".encode()
    return b"S" + (4 + len(body)).to_bytes(4, "big") + body


def greeting(**changes: str) -> bytes:
    return b"".join(status(name, value) for name, value in {**TOLD, **changes}.items())


def test_a_server_that_is_the_same_is_given_nothing() -> None:
    """No round trip, no news."""
    renewal = Renewal(TOLD, ())
    assert renewal.start(greeting()) == b""
    assert renewal.is_over
    assert renewal.news() == b""


def test_settings_come_first_and_nothing_of_it_is_news() -> None:
    """One query for all that differs, the encoding last; then the statements and a Sync."""
    told = {**TOLD, "TimeZone": r"it's \ here", "client_encoding": "LATIN1", "search_path": "a"}
    renewal = Renewal(told, (PARSE,))
    said = renewal.start(greeting(client_encoding="UTF8", search_path='"$user", public'))
    text, rest = said[5 : said.index(b"\0", 5)].decode(), said[said.index(b"\0", 5) + 1 :]
    names = [part.split("'")[1] for part in text.split("; ")]
    assert names == ["TimeZone", "search_path", "client_encoding"]
    assert r"set_config(E'TimeZone', E'it''s \\ here', false)" in text
    assert rest == PARSE + b"S\x00\x00\x00\x04"
    renewal.feed(status("TimeZone", told["TimeZone"]) + status("client_encoding", "LATIN1"))
    renewal.feed(status("search_path", "a") + READY)
    assert not renewal.is_over
    renewal.feed(b"1\x00\x00\x00\x04" + READY)
    assert renewal.is_over
    assert renewal.settings == told
    assert renewal.news() == b""


def test_what_nobody_can_set_is_news() -> None:
    """Another version of the server, say; a parameter that only one reports is let be."""
    renewal = Renewal({**TOLD, "of_old": "1"}, ())
    assert renewal.start(greeting(server_version="15.2", in_hot_standby="off")) == b""
    assert renewal.news() == status("server_version", "15.2") + status("in_hot_standby", "off")


@pytest.mark.parametrize("name", ["session_authorization", "TimeZone"])
def test_who_cannot_be_made_anew_is_not(name: str) -> None:
    """Another user; a value whose bytes are not known."""
    renewal = Renewal({**TOLD, name: "\ufffd"}, ())
    with pytest.raises(RenewalImpossible):
        renewal.start(greeting())


def test_a_statement_that_the_server_does_not_take_ends_it() -> None:
    """The client must not find that out by and by."""
    renewal = Renewal(TOLD, (PARSE,))
    renewal.start(greeting())
    with pytest.raises(RenewalImpossible, match="no such table"):
        renewal.feed(b"E\x00\x00\x00\x22SERROR\0C42P01\0Mno such table\0\0")
