"""A herd whose nodes are machines on one Ethernet (`segment`); the tests are its client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from segment import Segment

from pgherd.proof import layout
from pgherd.proof.herd import LocalHerd


class Wired(LocalHerd):
    """See above. To be made and used inside of the segment's hub."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        super().__init__(len(segment.names), hosts=list(segment.hosts.values()))
        for name, place in self.places.items():
            values = layout.merge(layout.read_settings(place), self.more(name))
            layout.write_settings(place, values)

    def more(self, name: str) -> dict[str, Any]:
        """What is different from a node of any other herd."""
        return {
            "node": {
                "address": {
                    "advertise": self.segment.hosts[name],
                    "postgresql": {"listen": "0.0.0.0"},
                    "proxy": {"listen": "0.0.0.0"},
                }
            }
        }

    def _wrap(self, name: str) -> list[str]:
        return self.segment.wrap(name)

    def cut_off(self, *names: str) -> Callable[[], object]:
        """These hear no other node and are heard by none; clients reach them. What undoes that."""
        ends = ", ".join(names)
        self.segment.run(
            "hub",
            *("nft", "-f", "-"),
            text="add table bridge cut\n"
            "add chain bridge cut forward { type filter hook forward priority 0; policy accept; }\n"
            f"add rule bridge cut forward iifname {{ {ends} }} drop\n"
            f"add rule bridge cut forward oifname {{ {ends} }} drop\n",
        )
        return lambda: self.segment.run("hub", "nft", "delete", "table", "bridge", "cut")
