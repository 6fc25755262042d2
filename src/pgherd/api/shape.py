"""What all that the API answers has in common. Owns the base of its models and the word for a node.

Leaves which models there are to `schema`.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

NodeName = str


class Model(BaseModel):
    """The base of what is answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")
