"""Tokens for joining, tokens of the API and the audit record, as commands change them.

Owns what is refused and how much is kept. Whether a token may be taken away (the last one that may
do everything) is the API's to say: only it knows those of its node's file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from pgherd.ledger import commands as cmd
from pgherd.ledger.outcome import Result, note, refuse
from pgherd.model.facts import Facts, JoinToken
from pgherd.model.rights import API_TOKENS_MAX, AUDIT_MAX, KeptToken

JOIN_TOKENS_MAX = 100

replace = msgspec.structs.replace


def issue(facts: Facts, c: cmd.IssueToken, at_ms: int) -> Result:
    if c.id in facts.tokens:
        return refuse(facts, "already", "this token exists")
    by_end = sorted(facts.tokens.values(), key=lambda one: (one.expires_at_unix, one.id))
    kept = {one.id: one for one in by_end[-JOIN_TOKENS_MAX + 1 :]}
    kept[c.id] = JoinToken(
        id=c.id, secret_sha256=c.secret_sha256, expires_at_unix=c.expires_at_unix
    )
    return replace(facts, tokens=kept), cmd.Done()


def make(facts: Facts, c: cmd.MakeToken, at_ms: int) -> Result:
    """Tokens whose time is over leave room for new ones, and their names."""
    kept = tuple(one for one in facts.rights.tokens if not one.is_over(at_ms))
    if any(one.id == c.id for one in kept):
        return refuse(facts, "already", "this token exists")
    if any(one.name == c.name for one in kept):
        return refuse(facts, "name_taken", f"there is a token {c.name} already")
    if len(kept) >= API_TOKENS_MAX:
        return refuse(facts, "too_many", f"there are {API_TOKENS_MAX} tokens, revoke some first")
    made = KeptToken(c.id, c.name, c.role, c.sha256, c.author, at_ms, c.ends_at_ms)
    facts = replace(facts, rights=replace(facts.rights, tokens=(*kept, made)))
    text = f"token {c.name} ({c.role.word}) made by {c.author}"
    return note(facts, at_ms=at_ms, kind="token.made", text=text), cmd.Done()


def revoke(facts: Facts, c: cmd.RevokeToken, at_ms: int) -> Result:
    gone = next((one for one in facts.rights.tokens if one.id == c.id), None)
    if gone is None:
        return refuse(facts, "unknown_token", "there is no such token")
    left = tuple(one for one in facts.rights.tokens if one is not gone)
    facts = replace(facts, rights=replace(facts.rights, tokens=left))
    text = f"token {gone.name} ({gone.role.word}) revoked by {c.author}"
    return note(facts, at_ms=at_ms, kind="token.revoked", text=text), cmd.Done()


def record(facts: Facts, c: cmd.RecordAudit, at_ms: int) -> Result:
    """Told again after a doubtful answer, an entry is kept once."""
    known = {one.id for one in facts.rights.audit}
    new = tuple(one for one in c.entries if one.id not in known)
    audit = (*facts.rights.audit, *new)[-AUDIT_MAX:]
    return replace(facts, rights=replace(facts.rights, audit=audit)), cmd.Done()


HANDLERS: dict[type, Callable[[Facts, Any, int], Result]] = {
    cmd.IssueToken: issue,
    cmd.MakeToken: make,
    cmd.RevokeToken: revoke,
    cmd.RecordAudit: record,
}
