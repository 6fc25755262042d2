"""Measure what it costs to know a statement that was seen: `./dev bench classify [--rounds 9]`.

Owns the figures of classification in the shuttle and in Python, on the same texts in the same run:
microseconds for each look at a statement, with other literals each time. The goal is 1 us.
"""

from __future__ import annotations

import argparse
import secrets
import statistics
import time
from collections.abc import Callable

from pgherd.model.ids import Instant
from pgherd.relay._shuttle import Shuttle
from pgherd.relay.parsing import parse
from pgherd.route.classifier import Classifier

TEXTS = {
    "57 letters": b"SELECT abalance FROM pgbench_accounts WHERE aid = %07d ",
    "300 letters": b"SELECT o.id, o.total, c.name, c.city FROM orders o JOIN customers c"
    b" ON c.id = o.customer WHERE o.placed_at > '2026-01-01' AND o.state IN ('paid', 'sent')"
    b" AND c.city = 'Berlin' AND o.total BETWEEN 100 AND 5000 AND o.id > %07d"
    b" ORDER BY o.placed_at DESC, o.id LIMIT 50 OFFSET 100 ",
}
LOOKS = 20_000


def cost_us(look: Callable[[bytes], object], text: bytes) -> float:
    """Of one look, without the loop around it."""
    texts = [text % number for number in range(LOOKS)]
    look(texts[0])
    began = time.perf_counter()
    for one in texts:
        look(one)
    between = time.perf_counter()
    for _ in texts:
        pass
    return (2 * between - began - time.perf_counter()) / LOOKS * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev bench classify", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    chosen = parser.parse_args()
    shuttle = Shuttle(())
    classifier = Classifier(parse, secrets.token_bytes(16))
    now = Instant(0)

    def in_c(text: bytes) -> object:
        return shuttle.known(0, text)

    def in_python(text: bytes) -> object:
        return classifier.judge(classifier.look(text), "postgres", now)

    for name, text in TEXTS.items():
        shuttle.learn(0, text % 1, True)
        for engine, look in (("shuttle", in_c), ("python", in_python)):
            found = [cost_us(look, text) for _ in range(chosen.rounds)]
            print(
                f"{name:12} {engine:8} {statistics.median(found):6.2f} us"
                f" ({min(found):.2f} - {max(found):.2f})"
            )
    shuttle.close()


if __name__ == "__main__":
    main()
