"""Hooks: programs in three spellings, receivers, and what is refused with a helpful word."""

from __future__ import annotations

import pytest

from pgherd.config.load import load_text
from pgherd.config.problems import ConfigError
from pgherd.config.reload import diff, strongest

SMALLEST = "version: 1\nnode: {name: n1, address: 127.0.0.1}\n"
URL = "https://alerts.example/hook/T0K3N"


def hooks(text: str):
    return load_text(SMALLEST + f"hooks: {{{text}}}").hooks


def why(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        hooks(text)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["/bin/told --to 'the pager'", '[/bin/told, --to, "the pager"]'],
)
def test_a_program_is_a_line_or_a_list(text: str) -> None:
    """As users of other systems write it; the deadline is the usual one."""
    found = hooks(f"on_role_change: {text if text[0] == '[' else chr(34) + text + chr(34)}")
    assert found.on_role_change.command == ("/bin/told", "--to", "the pager")
    assert found.on_role_change.deadline_ms == 30_000
    assert found.on_start is None


def test_a_program_with_its_deadline() -> None:
    found = hooks("pre_promote: {command: [/bin/ready], deadline: 4s}, on_stop: /bin/stopped")
    assert (found.pre_promote.command, found.pre_promote.deadline_ms) == (("/bin/ready",), 4000)
    assert hooks("pre_promote: /bin/ready").pre_promote.deadline_ms == 10_000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("on_start: told", "write its whole path first"),
        ("on_start: []", "write its whole path first"),
        ('on_start: "/bin/told \'"', "cannot be read as a command"),
        ("on_start: {command: [/bin/told], deadline: 1ms}", "at least 100ms"),
        ("pre_promote: {command: [/bin/told], deadline: 5m}", "at most 2m"),
        ("on_promote: /bin/told", "did you mean"),
        ("webhook: [{url: ftp://x}]", "is not an address of HTTP"),
        ("webhook: [{url: 'http://alerts.example/'}]", "is not encrypted"),
        ("webhook: [{url: 'https://otto:pw@alerts.example/'}]", "has a password in it"),
        (f"webhook: [{{url: '{URL}', events: [leader.elekted]}}]", "is no kind of event"),
        (f"webhook: [{{url: '{URL}', timeout: 1ms}}]", "at least 100ms"),
        ("webhook: [" + ", ".join([f"{{url: '{URL}'}}"] * 9) + "]", "at most 8"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    found = why(text)
    assert said in found
    assert "pw@" not in found
    assert "T0K3N" not in found


def test_a_receiver_hides_its_address_and_its_key() -> None:
    """One receiver may stand without a list; nearby plain http is taken."""
    found = hooks(
        f"webhook: {{url: '{URL}', secret: env:KEY, events: ['primary.*'], level: warning}}"
    )
    [one] = found.webhook
    assert "T0K3N" not in repr(found)
    assert (one.url.reveal(), one.level, one.give_up_ms) == (URL, "warning", 3_600_000)
    assert hooks("webhook: [{url: 'http://127.0.0.1:9/x'}, {url: 'http://pager/x'}]").webhook


def test_all_of_it_is_taken_up_by_a_reload() -> None:
    """Every key of the section is live."""
    after = load_text(SMALLEST + f"hooks: {{pre_promote: /bin/x, webhook: [{{url: '{URL}'}}]}}")
    changes = diff(load_text(SMALLEST), after)
    assert [one.key for one in changes] == ["hooks.pre_promote", "hooks.webhook"]
    assert strongest(changes) == "live"


def test_a_person_who_checks_a_file_hears_of_missing_programs(tmp_path) -> None:
    """An agent does not: one that starts without them is better than none."""
    program = tmp_path / "told"
    text = SMALLEST + f"hooks: {{on_start: {program}, pre_promote: [{tmp_path}]}}"
    assert load_text(text).hooks.on_start is not None
    with pytest.raises(ConfigError) as caught:
        load_text(text, check_devices=True)
    assert f"{program} is no program" in str(caught.value)
    assert f"{tmp_path} is no program" in str(caught.value)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert load_text(SMALLEST + f"hooks: {{on_start: {program}}}", check_devices=True)
