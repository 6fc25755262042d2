"""Whatever text is given, the answer is Settings or a ConfigError of one-line problems."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pgherd.config.describe import walk
from pgherd.config.generate import generate
from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError, Problem

KEYS = st.sampled_from(sorted({step for described in walk() for step in described.path})) | st.text(
    max_size=8
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=12)
    | st.sampled_from(["1s", "16MB", "auto", "::1", "10.0.0.1", "/x", "primary", "file:/x"])
)
TREES: Any = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


def problems(text: str, env: dict[str, str] | None = None) -> tuple[Problem, ...] | None:
    try:
        load_text(text, env=env)
    except ConfigError as error:
        return error.problems
    return None


def answer(text: str, env: dict[str, str] | None = None) -> None:
    found = problems(text, env)
    assert found != ()
    for problem in found or ():
        assert problem.message
        assert "\n" not in str(problem), problem


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    answer(text)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_any_tree(tree: dict[str, Any]) -> None:
    answer(json.dumps(tree))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(list(walk())), TREES)
def test_any_value_of_any_key(described: Any, value: Any) -> None:
    answer(generate(), env={described.environment: json.dumps(value)})
