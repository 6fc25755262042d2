"""What a run is told as: its head, its counts, its drawings, and the line that runs it again.

Owns the words and the exit code. Leaves the record of runs to `sim.record`'s page.
"""

from __future__ import annotations

from pathlib import Path

from pgherd.chaos import timeline
from pgherd.chaos.run import Options, Record
from pgherd.chaos.schedule import DOUBLE_PART
from pgherd.chaos.timeline import Bar, Story
from pgherd.sim.record import Attacked, today

DONE, FAILED, CANNOT, VOID = 0, 1, 2, 3


def head(options: Options, *, commit: str) -> str:
    """What is run, on what, by which source."""
    ground = "network namespaces" if options.apart else "loopback"
    return (
        f"chaos: seed {options.seed}, {options.minutes:g} minutes, {options.nodes} nodes in "
        f"{ground}, PostgreSQL: {options.postgres_bin}, commit {commit}\n"
        f"again: {again(options)}"
    )


def again(options: Options) -> str:
    """The command that runs the same plan."""
    words = [f"./dev chaos --minutes {options.minutes:g} --seed {options.seed}"]
    words += [] if options.apart else ["--loopback"]
    words += [f"--nodes {options.nodes}"] if options.nodes != 3 else []
    words += [f"--steps {options.steps_max}"] if options.steps_max else []
    words += [f"--leading {options.leading_share:g}"] if options.leading_share else []
    doubled = options.double_part != DOUBLE_PART
    words += [f"--double {options.double_part:g}"] if doubled else []
    words += [f"--postgres-bin {options.postgres_bin}"] if options.postgres_bin != "auto" else []
    words += [f"--only {' '.join(options.only)}"] if options.only else []
    return " ".join(words)


def story(record: Record) -> Story:
    """A record as something to be drawn."""
    judgement = record.judgement
    known = [one for one in (judgement.reigns if judgement else ()) if one.established_at]
    ends = [*(one.began_at - record.began for one in known[1:]), record.seconds]
    reigns = [
        Bar(
            one.primary,
            max(0.0, (one.established_at or 0.0) - record.began),
            end,
            f"term {one.term}: {one.kind}",
            one.term,
        )
        for one, end in zip(known, ends, strict=False)
    ]
    faults = [
        Bar(one.name, one.began, one.ended, one.whom) for one in record.struck if not one.missed
    ]
    return Story(record.seconds, record.acks, reigns, faults)


def counts(record: Record) -> dict[str, int]:
    """The figures of a run, by the names that CI holds against its floors."""
    judgement = record.judgement
    terms = {one.term for one in (judgement.reigns if judgement else ())}
    faults = record.faults
    steps = {one.number for one in record.struck if not one.missed}
    doubles = {one.number for one in record.struck if one.is_double and not one.missed}
    return {
        "faults": sum(faults.values()),
        "fault_kinds": len(faults),
        "missed": sum(bool(one.missed) for one in record.struck),
        "steps": len(steps),
        "double_faults": len(doubles),
        "failovers": record.failovers,
        "switchovers": len(record.reigns("switchover")),
        "terms": sum(term > record.first_term for term in terms),
        "acknowledged": judgement.acknowledged if judgement else 0,
        "probes_acknowledged": judgement.probes.acknowledged if judgement else 0,
        "probes_refused": judgement.probes.refused if judgement else 0,
        "lost": judgement.lost if judgement else 0,
    }


def line_for_record(record: Record, *, commit: str) -> Attacked:
    """A run as a line of the soak record; its minutes are those of the whole run."""
    found, options = counts(record), record.options
    return Attacked(
        day=today(),
        commit=commit,
        ground="namespaces" if options.apart else "loopback",
        postgres=record.version,
        seed=options.seed,
        minutes=round(record.seconds / 60, 1),
        faults=found["faults"],
        kinds=found["fault_kinds"],
        double=found["double_faults"],
        failovers=found["failovers"],
        acknowledged=found["acknowledged"],
        refused=found["probes_refused"],
        lost=found["lost"],
        wrong=len(record.wrong),
    )


def tail(record: Record, *, picture: Path) -> str:
    """Everything after the last fault: drawings, counts, verdict."""
    parts = [timeline.text(story(record))]
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(timeline.svg(story(record)), encoding="utf-8")
    parts.append(f"drawn: {picture}\n")
    by_kind = ", ".join(f"{name} {times}" for name, times in sorted(record.faults.items()))
    parts.append(f"kinds: {by_kind}\n")
    if record.judgement is not None:
        parts.append(f"writes: {record.judgement.verdict}\n")
    parts += [f"{name}={number}\n" for name, number in counts(record).items()]
    parts += [f"WRONG: {text}\n" for text in record.wrong]
    if record.void and not record.wrong:
        parts.append(f"VOID: {record.void}\n")
    parts.append(f"again: {again(record.options)}")
    return "".join(parts)


def code(record: Record) -> int:
    """The exit code: a run that proves nothing is no success."""
    if record.wrong:
        return FAILED
    return VOID if record.void else DONE
