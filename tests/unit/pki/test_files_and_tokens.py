"""Prove that private files stay private and whole, and that tokens say what they mean."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgherd.pki.files import write_private
from pgherd.pki.token import (
    Invitation,
    TokenInvalid,
    decode_token,
    encode_token,
    hash_secret,
    new_secret,
    secret_matches,
)

TOKEN = Invitation("db1.example.org", 8432, "t1", "s" * 32, "ab" * 32)


def test_private_files_are_0600_from_the_first_byte(tmp_path: Path) -> None:
    """Even with a careless umask and over a file that was readable; no draft stays behind."""
    path = tmp_path / "node.key"
    path.write_bytes(b"old")
    path.chmod(0o644)
    before = os.umask(0)
    try:
        write_private(path, b"secret")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """What cannot be replaced stays as it was, and no draft is left."""
    target = tmp_path / "directory"
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(target, b"x")
    assert list(tmp_path.iterdir()) == [target]


@given(
    st.builds(
        Invitation, st.text(max_size=80), st.integers(1, 65535), st.text(), st.text(), st.text()
    )
)
def test_tokens_round_trip(invitation: Invitation) -> None:
    """What was put in comes out, also when the text was wrapped on its way."""
    text = encode_token(invitation)
    if len(text) < 2000:
        assert decode_token(f"  {text[:20]}\n {text[20:]}\n") == invitation


def test_a_token_with_any_character_changed_is_refused() -> None:
    """A badly copied token is told from a wrong one, before anything is sent."""
    text = encode_token(TOKEN)
    assert decode_token(text) == TOKEN
    for at in range(len("pgherd1."), len(text)):
        for changed in (text[:at] + "!" + text[at + 1 :], text[:at] + text[at + 1 :]):
            with pytest.raises(TokenInvalid, match="copy it again"):
                decode_token(changed)


@pytest.mark.parametrize("text", ["", "hello", "pgherd2.abcd", "pgherd1." + "A" * 5000])
def test_what_is_no_token_is_refused(text: str) -> None:
    """With the command that makes one."""
    with pytest.raises(TokenInvalid, match="pgherd token create --join"):
        decode_token(text)


def test_secrets_match_only_themselves() -> None:
    """Two secrets differ; the stored hash is not the secret."""
    one, two = new_secret(), new_secret()
    assert one != two
    assert one not in hash_secret(one)
    assert secret_matches(one, hash_secret(one))
    assert not secret_matches(two, hash_secret(one))
