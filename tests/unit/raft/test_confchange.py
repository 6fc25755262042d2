"""Proves how one configuration follows from another, and which changes are refused."""

from __future__ import annotations

import pytest

from pgherd.raft.confchange import encode_conf_change
from pgherd.raft.conformance import (
    ConfChangeError,
    ConfState,
    Entry,
    Progress,
    change_conf,
    decode_conf_change,
)
from pgherd.raft.types import ConfOp, Transition

Given = tuple[ConfState, dict[int, Progress]]


def given(*ops: ConfOp, mode: str = "simple", after: Given | None = None, **more: object) -> Given:
    """The configuration after ops, from nothing or from another one."""
    conf, progress = after or (ConfState(), {})
    return change_conf(conf, progress, ops, mode=mode, last_index=5, **more)  # type: ignore[arg-type]


def three() -> Given:
    """Voters 1, 2, 3."""
    one = given(("v", 1))
    return given(("v", 3), after=given(("v", 2), after=one))


def code_of(*ops: ConfOp, mode: str, after: Given) -> str:
    with pytest.raises(ConfChangeError) as caught:
        given(*ops, mode=mode, after=after)
    return caught.value.code


def test_a_new_node_is_probed_from_the_end_of_the_log_and_held_alive() -> None:
    """Else a snapshot would not go to it, and the quorum check would count it as dead."""
    _, progress = given(("v", 1), ("l", 2))
    assert progress[2] == Progress(next=5, learner=True, active=True)
    assert not progress[1].learner


def test_kept_nodes_keep_their_progress_and_removed_ones_are_forgotten() -> None:
    """A node that left and came back within one change starts anew."""
    conf, progress = three()
    progress[2] = Progress(match=4, next=6, state="replicate")
    _, after = given(("r", 3), after=(conf, progress))
    assert after == {1: progress[1], 2: progress[2]}
    _, again = given(("r", 2), ("v", 2), after=(conf, progress))
    assert again[2].match == 0


def test_promotion_and_demotion() -> None:
    """A learner becomes a voter and back, with its progress kept."""
    conf, progress = given(("l", 2), after=given(("v", 1)))
    conf, progress = given(("v", 2), after=(conf, progress))
    assert (conf.voters, conf.learners, progress[2].learner) == ((1, 2), (), False)
    conf, progress = given(("l", 2), after=(conf, progress))
    assert (conf.voters, conf.learners, progress[2].learner) == ((1,), (2,), True)


@pytest.mark.parametrize("op", [("u", 1), ("v", 1), ("v", 0), ("r", 0), ("r", 9), ("u", 9)])
def test_what_is_already_so_changes_nothing(op: ConfOp) -> None:
    """Updates, id 0, repeated joins and removals of strangers are no-ops."""
    before = given(("v", 1))
    assert given(op, after=before) == before


def test_refusals_name_their_reason() -> None:
    """Each refusal has its code, and the mode is looked at first."""
    joint = given(("v", 4), mode="enter", after=three())
    assert code_of(("v", 1), mode="simple", after=joint) == "simple-in-joint"
    assert code_of(("v", 1), mode="enter", after=joint) == "already-joint"
    assert code_of(("v", 1), mode="enter", after=(ConfState(), {})) == "empty-joint"
    assert code_of(mode="leave", after=three()) == "not-joint"
    assert code_of(("r", 1), mode="simple", after=given(("v", 1))) == "no-voters"
    assert code_of(("v", 4), ("v", 5), mode="simple", after=three()) == "too-many-voters"
    assert code_of(("v", 4), ("r", 1), mode="simple", after=three()) == "too-many-voters"


def test_replacing_a_node_goes_through_a_joint_configuration() -> None:
    """The removed voter keeps its progress, and a demoted one is a voter, until the end."""
    joint = given(("v", 4), ("r", 1), ("l", 2), mode="enter", auto_leave=True, after=three())
    assert joint[0] == ConfState(
        voters=(3, 4), voters_outgoing=(1, 2, 3), learners_next=(2,), auto_leave=True
    )
    assert sorted(joint[1]) == [1, 2, 3, 4]
    assert not joint[1][2].learner
    conf, progress = given(mode="leave", after=joint)
    assert conf == ConfState(voters=(3, 4), learners=(2,))
    assert sorted(progress) == [2, 3, 4]
    assert progress[2].learner


def test_the_given_values_are_not_changed() -> None:
    """change_conf is pure: a refused or accepted change leaves its input alone."""
    conf, progress = three()
    copy = dict(progress)
    given(("v", 4), ("r", 1), mode="enter", after=(conf, progress))
    assert progress == copy


@pytest.mark.parametrize(
    ("ops", "transition"),
    [
        ([], "auto"),
        ([("v", 7)], "auto"),
        ([("v", 1), ("l", 22), ("r", 3), ("u", 4)], "implicit"),
        ([], "explicit"),
    ],
)
def test_a_change_survives_its_entry(ops: list[ConfOp], transition: Transition) -> None:
    """Encoding and decoding agree; leaving a joint configuration is the empty entry."""
    entry = Entry(type="conf2", data=encode_conf_change(ops, transition))
    assert decode_conf_change(entry) == (ops, transition)
    assert encode_conf_change([]) == b""


@pytest.mark.parametrize("data", [b"x1", b"v", b"v-1", b"v1 explicit", "v²".encode()])
def test_a_damaged_change_is_refused(data: bytes) -> None:
    """Nothing is guessed from an entry that no version wrote."""
    with pytest.raises(ValueError):
        decode_conf_change(Entry(type="conf2", data=data))


def test_a_normal_entry_is_no_change() -> None:
    """Asking for the change in one is an error of the caller."""
    with pytest.raises(ValueError):
        decode_conf_change(Entry(data=b"v1"))
