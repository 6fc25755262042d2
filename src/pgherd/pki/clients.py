"""Who a client certificate belongs to: a person or a program, never a node.

Owns the mark that `pki issue` puts into them: an organizational unit `pgherd:ROLE`. What the role
may do is `api.guard`'s.
"""

from __future__ import annotations

import msgspec

MARK = "pgherd:"
"""How the organizational unit of a client's certificate begins; no node's has one."""


class Shown(msgspec.Struct, frozen=True):
    """A certificate as a client showed it. role: by its mark, "" without one."""

    name: str
    names: tuple[str, ...]
    role: str


def shown(certificate: object) -> Shown | None:
    """Read a verified certificate (getpeercert()); None where there is none."""
    if not isinstance(certificate, dict) or not certificate:
        return None
    common = values(certificate, "commonName")
    other = [
        str(value) for kind, value in certificate.get("subjectAltName", ()) if kind != "DirName"
    ]
    names = tuple(dict.fromkeys([*common, *other]))
    return Shown(
        name=names[0] if names else "a certificate without a name",
        names=names,
        role=marked(certificate),
    )


def marked(certificate: dict[str, object]) -> str:
    """The role that a certificate is marked with; "" where it has none, or several."""
    units = values(certificate, "organizationalUnitName")
    roles = [unit.removeprefix(MARK) for unit in units if unit.startswith(MARK)]
    return roles[0] if len(roles) == 1 else ""


def is_clients(certificate: dict[str, object]) -> bool:
    """Whether it was issued for a client: then it proves no node."""
    return any(unit.startswith(MARK) for unit in values(certificate, "organizationalUnitName"))


def values(certificate: dict[str, object], key: str) -> list[str]:
    """All values of one part of the subject."""
    subject = certificate.get("subject", ())
    assert isinstance(subject, tuple)
    return [str(value) for group in subject for kind, value in group if kind == key]
