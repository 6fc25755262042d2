"""`./dev chaos --minutes N --seed S`: attack a herd of real nodes, and judge what it promised."""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from pgherd.chaos import machine, report
from pgherd.chaos.kinds import KINDS, allowed
from pgherd.chaos.run import Options, Run
from pgherd.chaos.schedule import DOUBLE_PART
from pgherd.model.errors import OperatorError, PgherdError
from pgherd.sim.record import commit, record_attacked

PICTURES = Path("build")
"""Beside what else is made and not kept."""
SEED_MAX = 1 << 31


def main(words: list[str]) -> int:
    """Run what was asked for. 0: done, 1: wrong, 2: cannot here, 3: proves nothing."""
    parser = _parser()
    options = parser.parse_args(words)
    if options.list:
        print(table())
        return report.DONE
    unknown = set(options.only) - KINDS.keys()
    if unknown:
        parser.error(f"no kind {', '.join(sorted(unknown))}; --list shows them")
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(SEED_MAX)
        words = [*words, "--seed", str(options.seed)]
    if not options.loopback and not machine.is_inside():
        try:
            machine.require()
        except OperatorError as error:
            print(f"chaos: {error}", file=sys.stderr)
            return report.CANNOT
        machine.enter(words)
    return go(options)


def go(words: argparse.Namespace) -> int:
    """The run, told from its first line to its last."""
    options = Options(
        seed=words.seed,
        minutes=words.minutes,
        apart=not words.loopback,
        nodes=words.nodes,
        postgres_bin=absolute(words.postgres_bin),
        only=tuple(words.only),
        leading_share=words.leading,
        double_part=words.double,
        steps_max=words.steps,
        directory=words.keep,
    )
    kinds = allowed(apart=options.apart)
    if options.only:
        kinds = [kind for kind in kinds if kind.name in options.only]
    if not kinds:
        print(f"chaos: none of {', '.join(words.only)} is possible on loopback", file=sys.stderr)
        return report.CANNOT
    at = commit()
    tell(report.head(options, commit=at))
    try:
        record = Run(options, kinds, tell).go()
    except PgherdError as error:  # it never came up: there is nothing to judge
        print(f"chaos: {error}", file=sys.stderr)
        return report.FAILED
    tell(report.tail(record, picture=words.svg or PICTURES / f"chaos-{options.seed}.svg"))
    if words.record:
        record_attacked(report.line_for_record(record, commit=at), record.faults)
    return report.code(record)


def absolute(postgres_bin: str) -> str:
    """A directory as the nodes, which work elsewhere, can find it."""
    return postgres_bin if postgres_bin == "auto" else str(Path(postgres_bin).absolute())


def table() -> str:
    """Every kind of fault, as a person wants to see it."""
    return "\n".join(
        f"{kind.name:28s} {kind.primitive}  {','.join(map(str, kind.rows)) or '-':8s} "
        f"{kind.target}: {kind.how}"
        for kind in KINDS.values()
    )


def tell(text: str) -> None:
    """Say it at once: whoever waits for minutes wants to see something."""
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0, help="for how long faults strike")
    parser.add_argument("--seed", type=int, help="of the plan; default: a fresh one")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--postgres-bin", default="auto", help="directory of the binaries")
    parser.add_argument("--loopback", action="store_true", help="without root: fewer kinds")
    parser.add_argument("--only", nargs="+", default=[], metavar="KIND", help="only these kinds")
    parser.add_argument("--steps", type=int, default=0, help="end after so many steps of the plan")
    parser.add_argument("--leading", type=float, default=0.0, help="least part that hits primaries")
    parser.add_argument("--double", type=float, default=DOUBLE_PART, help="part of double faults")
    parser.add_argument("--svg", type=Path, help=f"draw the run there, not into {PICTURES}")
    parser.add_argument("--record", action="store_true", help="write the counts into the docs")
    parser.add_argument("--keep", type=Path, help="keep the herd's directory here")
    parser.add_argument("--list", action="store_true", help="show all kinds of faults")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
