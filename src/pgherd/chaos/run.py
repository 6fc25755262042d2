"""One run: a herd starts, faults strike it by plan under load, it comes right, and is judged.

Owns the order of a run and its record: every fault with its times, whom it struck and what became
of it. Faults stop before anything is read. Leaves the plan to `schedule`, the load and its verdict
to `load`, and how it is told to `report` and `timeline`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import msgspec
import psycopg

from pgherd.chaos.fault import Kind, NotNow, Scene, Undo
from pgherd.chaos.herd import Apart, Loopback
from pgherd.chaos.load import Judgement, Load
from pgherd.chaos.schedule import DOUBLE_PART, Blow, Step, steps
from pgherd.model.errors import PgherdError
from pgherd.proof.client import NoAnswer
from pgherd.proof.reigns import Reigned

START_DEADLINE_S = 90.0
RIGHT_DEADLINE_S = 120.0
"""A herd without a fault is whole within this, or has failed."""
OVERRIDES = {"postgresql": {"parameters": {"max_wal_size": "192MB"}}}
"""The file systems are small, and hold a second copy of the data while a member is rebuilt."""
QUIET_S = 2.0
TRACEBACK = "Traceback (most recent call last)"
TROUBLES = (PgherdError, NoAnswer, psycopg.Error, OSError, RuntimeError)
"""What a herd that does not do what it should ends in, wherever it is asked or struck."""
Tell = Callable[[str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is asked for. only: names of kinds; none: all that the ground allows."""

    seed: int
    minutes: float
    apart: bool
    nodes: int = 3
    postgres_bin: str = "auto"
    only: tuple[str, ...] = ()
    leading_share: float = 0.0
    double_part: float = DOUBLE_PART
    steps_max: int = 0
    directory: Path | None = None


class Struck(msgspec.Struct):
    """One fault as it happened. Times in seconds of the run; missed: why it could not be."""

    number: int
    name: str
    began: float
    ended: float = 0.0
    whom: str = ""
    missed: str = ""
    is_double: bool = False


class Record(msgspec.Struct):
    """What a run did. began: on the monotonic clock; failure: why it is no success."""

    options: Options
    began: float
    struck: list[Struck] = msgspec.field(default_factory=list)
    judgement: Judgement | None = None
    version: str = ""
    first_term: int = 0
    seconds: float = 0.0
    acks: list[float] = msgspec.field(default_factory=list)
    failure: str = ""
    bugs: list[str] = msgspec.field(default_factory=list)

    @property
    def faults(self) -> Counter[str]:
        """How often each kind struck."""
        return Counter(one.name for one in self.struck if not one.missed)

    def reigns(self, kind: str) -> list[Reigned]:
        """The established reigns that began during the run, of one kind."""
        found = self.judgement.reigns if self.judgement is not None else ()
        return [
            one
            for one in found
            if one.term > self.first_term and one.established_at is not None and one.kind == kind
        ]

    @property
    def failovers(self) -> int:
        """Reigns that began because the one before had failed, or was made to."""
        return len(self.reigns("failover"))

    @property
    def wrong(self) -> list[str]:
        """Everything that must not be."""
        found = [self.failure] if self.failure else []
        return found + self.bugs + list(self.judgement.wrong if self.judgement is not None else ())

    @property
    def void(self) -> str:
        """Why the run proves nothing; "" when it does."""
        if not self.failovers:
            return "no failover"
        if self.judgement is None or not self.judgement.probes.refused:
            return "no probe was refused"
        struck = [one for one in self.struck if not one.missed]
        if not any(one.began <= at <= one.ended for one in struck for at in self.acks):
            return "no write was acknowledged while a fault was on"
        return ""


class Run:
    """The run itself; `go` never raises for what the product did."""

    def __init__(self, options: Options, kinds: Sequence[Kind], tell: Tell) -> None:
        self.options = options
        self._kinds = kinds
        self._tell = tell
        self._undos: list[Undo] = []
        self.record = Record(options=options, began=time.monotonic())

    def go(self) -> Record:
        """Start, attack, come right, judge."""
        options = self.options
        ground = Apart if options.apart else Loopback
        with ground(
            options.nodes,
            postgres_bin=options.postgres_bin,
            directory=options.directory,
            overrides=OVERRIDES,
        ) as herd:
            herd.start()
            took = herd.wait_stable(START_DEADLINE_S)
            self._tell(f"{options.nodes} nodes in {herd.directory}, whole after {took:.1f} s")
            [[version]] = herd.query(herd.wait_primary(), "SHOW server_version")
            self.record.version = str(version).split()[0]
            load = Load(herd)
            load.start()
            self.record.first_term = load.first_term
            try:
                self._attack(herd, load)
                self._calm(herd, load)
            except TROUBLES as error:
                text = f"{type(error).__name__}: {error}"
                self.record.failure = text.splitlines()[0]
                (herd.directory / "failure.txt").write_text(text)
                self._heal()
                load.stop()
                self._judge_what_is_there(load)
                self._keep_evidence(herd, load)
        self.record.seconds = self._now()
        return self.record

    def _now(self) -> float:
        return time.monotonic() - self.record.began

    def _attack(self, herd: Loopback, load: Load) -> None:
        until = time.monotonic() + self.options.minutes * 60
        options = self.options
        plan = steps(
            options.seed,
            self._kinds,
            leading_share=options.leading_share,
            double_part=options.double_part,
        )
        for step in plan:
            herd.wait_stable(RIGHT_DEADLINE_S)
            load.learn()
            over = time.monotonic() > until
            if over or (self.options.steps_max and step.number > self.options.steps_max):
                return
            time.sleep(step.gap_s)
            self._strike(herd, load, step)

    def _strike(self, herd: Loopback, load: Load, step: Step) -> None:
        """All faults of a step; they have ended when it returns."""
        began = time.monotonic()
        ends: list[tuple[float, Struck, Undo | None]] = []
        try:
            for blow in step.blows:
                sleep_until(began + blow.after_s)
                struck, undo = self._blow(herd, load, step, blow)
                if undo is not None:
                    self._undos.append(undo)
                if not struck.missed:
                    ends.append((time.monotonic() + blow.hold_s, struck, undo))
            for at, struck, undo in sorted(ends, key=lambda one: one[0]):
                sleep_until(at)
                if undo is not None:
                    self._undos.remove(undo)
                    undo()
                struck.ended = self._now()
        finally:
            self._heal()

    def _blow(
        self, herd: Loopback, load: Load, step: Step, blow: Blow
    ) -> tuple[Struck, Undo | None]:
        scene = Scene(herd, Random(blow.seed), hold_s=blow.hold_s)
        struck = Struck(step.number, blow.kind.name, self._now(), is_double=len(step.blows) > 1)
        self.record.struck.append(struck)
        undo: Undo | None = None
        try:
            undo = blow.kind.strike(scene)
            load.mark(blow.kind.name)
        except (NotNow, *TROUBLES) as error:
            struck.missed = str(error).strip().splitlines()[0] if str(error) else repr(error)
        struck.whom = " ".join(scene.struck)
        struck.ended = self._now()
        self._tell(line_of(struck, hold_s=blow.hold_s))
        return struck, undo

    def _heal(self) -> None:
        """End every fault that is left."""
        while self._undos:
            self._undos.pop()()

    def _calm(self, herd: Loopback, load: Load) -> None:
        """No fault any more: everything streams, then nobody writes, then all is read."""
        herd.wait_stable(RIGHT_DEADLINE_S)
        time.sleep(QUIET_S)
        load.stop()
        herd.wait_stable(RIGHT_DEADLINE_S)
        self._judge(load)
        self.record.bugs = bugs(herd)
        if self.record.wrong:
            self._keep_evidence(herd, load)

    def _judge(self, load: Load, *, everywhere: bool = True) -> None:
        self.record.acks = [at - self.record.began for at in load.acknowledged()]
        self.record.judgement = load.judge(everywhere=everywhere)

    def _judge_what_is_there(self, load: Load) -> None:
        """The herd did not come right: what its primary has, if there is one, still says much."""
        try:
            self._judge(load, everywhere=False)
        except TROUBLES as error:
            self._tell(f"nobody could be asked: {str(error).splitlines()[0]}")

    def _keep_evidence(self, herd: Loopback, load: Load) -> None:
        """Copy the servers' logs out of file systems that are about to go; write down all acks."""
        load.write_down(herd.directory)
        herd.is_kept = True
        self._tell(f"kept for a look: {herd.directory}")
        for place in herd.places.values():
            for found in place.data.parent.rglob("*.log"):
                target = place.directory / f"evidence-{found.name}"
                target.write_bytes(found.read_bytes())


def bugs(herd: Loopback) -> list[str]:
    """Errors that nobody foresaw, by the logs: no fault of this machine excuses one."""
    return [
        f"{place.name} logged {count} tracebacks"
        for place in herd.places.values()
        if (count := place.log.read_text(errors="replace").count(TRACEBACK))
    ]


def sleep_until(at: float) -> None:
    """Sleep until a time of the monotonic clock."""
    time.sleep(max(0.0, at - time.monotonic()))


def line_of(struck: Struck, *, hold_s: float) -> str:
    """A fault as one line."""
    head = f"{struck.began:7.1f} s  {struck.number:3d}  {struck.name:28s}"
    double = "+" if struck.is_double else " "
    if struck.missed:
        return f"{head} {double} missed: {struck.missed}"
    return f"{head} {double} {struck.whom or '-':22s} for {hold_s:.1f} s"
