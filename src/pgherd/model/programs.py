"""PostgreSQL's programs on a node: what runs, what its next start would run, what that lacks.

Owns the shape of it. How it is found out is `observe.programs`'s, what it means `plan.programs`'s.
Versions are server_version_num, as in 150014 for 15.14.
"""

from __future__ import annotations

import msgspec

MAJOR = 10_000


def version_text(number: int) -> str:
    """For people: 15.14."""
    return f"{number // MAJOR}.{number % MAJOR}"


class Programs(msgspec.Struct, frozen=True):
    """As of the last look, every few seconds.

    running: of the server that runs, 0: none, or not known · on_disk: of what its next start would
    run, 0: not known · data_major: of its data directory, 0: there is none · problem: why what is
    on disk could not be run · preloads: what its next start loads (shared_preload_libraries) ·
    extensions: of a primary, what its databases have · no_library, no_extension: of these, and of
    the primary's, what is not installed here.
    """

    running: int = 0
    on_disk: int = 0
    data_major: int = 0
    problem: str = ""
    preloads: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
    no_library: tuple[str, ...] = ()
    no_extension: tuple[str, ...] = ()

    @property
    def is_outdated(self) -> bool:
        """Whether a newer minor version waits for a restart."""
        same = self.running // MAJOR == self.on_disk // MAJOR
        return same and 0 < self.running < self.on_disk


class Wanted(msgspec.Struct, frozen=True):
    """What a primary has, and who may have to take over from it needs too."""

    libraries: tuple[str, ...] = ()
    extensions: tuple[str, ...] = ()
