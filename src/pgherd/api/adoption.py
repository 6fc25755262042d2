"""What `pgherd adopt` tells the agent: the data directory that it takes over is this one.

A file in raft.data_dir, written before anything else of a node and never removed: a command that
was cut short finds it and goes on. It says something only until this node has a store of its own.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pgherd.model.errors import OperatorError

ADOPTION_FILE = "adopted.json"


class Adoption(msgspec.Struct, frozen=True):
    """A data directory that somebody else made.

    incarnation: the name that it gets here, which stands in the directory too · founds: whether it
    becomes the first of a new cluster, rather than one more copy of another's.
    """

    data_dir: str
    system_id: str
    major: int
    incarnation: str
    founds: bool


def read_adoption(raft_data_dir: Path) -> Adoption | None:
    """What `pgherd adopt` left here, if it did."""
    path = raft_data_dir / ADOPTION_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Adoption)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise OperatorError(
            f"cannot read {path}: {error}", f"mv {path} {path}.broken, then: pgherd adopt"
        ) from error
