"""Keys of the products that people come from, each with ours or a sentence why there is none.

Owns one table per product, in the order of its documentation, and nothing else: read only where a
file has a key that pgherd does not know, and for docs/reference/keys-of-others.md. The facts were
taken from the products' own documentation and sources; `Product.source` says which version.
"""

from __future__ import annotations

from dataclasses import dataclass, field

SAME = "="
"""The key has the same name and meaning here."""


@dataclass(frozen=True, slots=True)
class Product:
    """keys: dotted key -> ours, SAME, or `nothing: why` · sections: of which nothing is taken over:
    name -> (what to write instead, its keys) · source: what the table was made from.
    """

    name: str
    source: str
    keys: dict[str, str]
    sections: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)

    def place(self, key: str) -> str:
        """What takes a key's place; "" for one that this product does not have."""
        found = self.keys.get(key, "")
        if found or key not in self.sections:
            return key if found == SAME else found
        return self.sections[key][0]


def products() -> tuple[Product, ...]:
    """All of them, those first that most people come from."""
    from pgherd.config.others import metako, patroni, pgbastion, ramd

    return (patroni.PRODUCT, ramd.PRODUCT, metako.PRODUCT, pgbastion.PRODUCT)
