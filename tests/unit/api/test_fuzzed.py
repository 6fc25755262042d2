"""Proves the contract: whatever it allows and forbids is sent, and every answer is one it names.

Schemathesis makes the calls from `/openapi.json` alone, over a herd of real values that is put back
before each, now and then without its primary or its quorum; clocks jump, so that nobody waits. CI
sends a few to each operation, `./dev test --full` 50,000 in all.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import HealthCheck, settings

schemathesis = pytest.importorskip("schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

CASES = 50_000 if os.environ.get("PGHERD_FULL") == "1" else 300
OPERATIONS = 105
CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
"""A bug of ours is a 500, which no operation names."""


def load_fakes() -> ModuleType:
    """The values of the other tests, when operations are collected: too early for a fixture."""
    spec = importlib.util.spec_from_file_location("fuzzed", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FAKES = load_fakes()
HERD = FAKES.make_herd()
BEFORE = (HERD.current, dict(HERD.heard))
STEPS = itertools.count(step=30)
COUNT = itertools.count()
FOLLOWERS = 1_000_000
"""As many streams of events as there may never be: the next one would not end."""

schema = schemathesis.openapi.from_asgi(
    "/openapi.json", FAKES.make_app(HERD, clock=lambda: float(next(STEPS)))
)


@pytest.mark.timeout(1200)
@schema.parametrize()
@settings(
    max_examples=max(2, CASES // OPERATIONS),
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_contract_names(case, count) -> None:
    """No call breaks it, and none is answered in a form that it does not promise."""
    HERD.current, HERD.heard = BEFORE[0], dict(BEFORE[1])
    HERD.submitted.clear()
    schema.app.state.services.streams = FOLLOWERS
    number = next(COUNT)
    HERD.has_quorum = number % 4 != 3
    if number % 3 == 2:
        HERD.silence(FAKES.N1)
    count(api_cases=1)
    case.call_and_validate(checks=CHECKS)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_the_contract_names_every_operation(method: str) -> None:
    """What a route takes and the contract leaves out would be sent nothing."""
    app = schema.app
    told = app.openapi()["paths"]
    for route in app.routes:
        if method in getattr(route, "methods", ()) and getattr(route, "include_in_schema", False):
            assert method.lower() in told[route.path]
