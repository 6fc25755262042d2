"""What a server is run with follows from the file."""

from __future__ import annotations

from pgherd.config.load import load_text
from pgherd.daemon.translate import server_settings


def test_the_command_that_makes_the_first_data() -> None:
    """None unless it is named; its time is as written."""
    text = "version: 1\nnode: {name: n1, address: 127.0.0.1}\n"
    assert server_settings(load_text(text, file="test")).bootstrap == ()
    text += "postgresql: {bootstrap: {command: [/bin/restore, main], timeout: 2h}}\n"
    found = server_settings(load_text(text, file="test"))
    assert (found.bootstrap, found.bootstrap_timeout_s) == (("/bin/restore", "main"), 7200)
