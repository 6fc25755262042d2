"""Proves the dashboard in a real browser at a real herd: what it shows, offers and does."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from browsing import PHONE, Person, browsing

from pgherd.cli.demo import ways_in
from pgherd.proof.herd import LocalHerd

pytestmark = pytest.mark.parametrize("stable", ["wheel-18"], indirect=True)

MARKUP = "<img src=x onerror='document.title=1'>"
HIDDEN = """(hidden) => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""
SLEPT = "(now => { Date.now = () => now() + 8 * 3600e3; })(Date.now)"
"""As after a night with the lid closed: the clock has gone on, what counts ticks has not."""
SOON_S = 30.0
Look = Callable[..., Person]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, once for all tests here."""
    with browsing() as found:
        yield found


@pytest.fixture
def look(browser: Any, herd: LocalHerd) -> Iterator[Look]:
    """Somebody looks at a node; whoever looked is asked at the end what was wrong."""
    people: list[Person] = []

    def begin(name: str, *, token: str | None = "", **more: Any) -> Person:
        shown = herd.secrets.token if token == "" else token
        people.append(Person(browser, herd, name, token=shown, **more))
        people[-1].come()
        return people[-1]

    yield begin
    for person in people:
        person.go()


def replicas(herd: LocalHerd) -> list[str]:
    primary = herd.wait_primary()
    return [name for name in herd.nodes if name != primary]


def test_a_switchover_by_clicks(herd: LocalHerd, look: Look) -> None:
    """The plan comes first; then the primary really moves, and every part of the page says so.

    Events come by the stream.
    """
    herd.wait_stable(60)
    old = herd.wait_primary()
    at, new = replicas(herd)
    person = look(at)
    person.sees("Writable", within=".verdict")
    person.sees("live", within=".events .stream")
    person.button("Switch over…").click()
    person.sees("What happens then", within="#dialog")
    person.page.locator(f"#dialog input[value={new}]").check()
    confirm = person.button(f"Switch over to {new}", within="#dialog")
    confirm.wait_for()
    person.assert_fit("switchover-plan")
    assert herd.primary() == old, "a plan changes nothing"
    confirm.dblclick()
    person.sees(f"{new} leads epoch", within="#dialog .done")
    asked = [url for url in person.asked if "/cluster/switchover?" in url]
    assert len(asked) == 1, "two clicks are one wish"
    herd.wait_for(lambda: herd.primary() == new, f"{new} as primary", deadline_s=SOON_S)
    assert herd.query(new, "SELECT pg_is_in_recovery()") == [(False,)]
    person.page.keyboard.press("Escape")
    person.sees(new, within=".verdict .headline strong")
    person.sees("primary.changed", within=".log")
    person.until(f"document.querySelector('.node.leads')?.dataset.name === '{new}'")
    person.until("document.querySelector('.timeline tbody tr.switchover')")
    person.until(f"document.getElementById('said').textContent.includes('{new} leads epoch')")
    lists = [url for url in person.asked if "/api/v1/events?follow=0" in url]
    assert len(lists) == 1, "what came later came by the stream"
    herd.wait_stable(60)
    person.sees("Writable", within=".verdict")
    person.assert_fit("wide-light")


def test_the_keyboard_alone_on_a_phone_in_the_dark(herd: LocalHerd, look: Look) -> None:
    """A pause and its end, without a pointer, at 360 pixels; what people type is text."""
    person = look(replicas(herd)[0], size=PHONE, theme="dark")
    person.sees("live", within=".events .stream")
    person.page.keyboard.press("Tab")
    assert person.focused() == "Skip to the state of the cluster"
    person.page.keyboard.press("Enter")
    person.tab_to("Pause automation…")
    person.page.keyboard.press("Enter")
    person.sees("What it means", within="#dialog")
    assert person.page.evaluate("document.querySelector('dialog').contains(document.activeElement)")
    for _ in range(12):
        person.page.keyboard.press("Tab")
        inside = "document.querySelector('dialog').contains(document.activeElement)"
        outside = "document.activeElement === document.body"
        assert person.page.evaluate(f"{inside} || {outside}"), "focus stays in the dialog"
    person.tab_to("Why")
    person.page.keyboard.type(MARKUP)
    person.assert_fit("pause-phone-dark")
    person.page.keyboard.press("Enter")
    person.sees("Paused", within="#dialog .done")
    assert herd.status()["pause"]["reason"] == MARKUP
    person.page.keyboard.press("Escape")
    person.until("!document.querySelector('dialog').open")
    person.sees(MARKUP, within=".attention")
    person.sees("cluster.paused", within=".log")
    assert person.page.locator("img").count() == 0
    assert person.page.title() != "1"
    assert person.focused() == "End the pause…", "focus comes back to where it was"
    person.assert_fit("paused-phone-dark")
    person.tab_to("Warnings")
    herd.ask("/cluster/resume", method="POST", body={})
    person.until("!document.querySelector('.attention')")
    assert person.focused() == "Warnings", "what comes and goes does not take the focus along"
    herd.ask("/cluster/pause", method="POST", body={"reason": "again"})
    person.sees("again", within=".attention")
    person.button("End the pause…").focus()
    person.page.keyboard.down("Enter")
    person.sees("Paused by", within="#dialog")
    assert person.focused() == "End the pause"
    person.page.keyboard.down("Enter")  # still held: the keyboard repeats it
    person.page.keyboard.up("Enter")
    person.page.keyboard.press("Tab")
    assert not [url for url in person.asked if url.endswith("/cluster/resume")]
    person.tab_to("End the pause")
    person.page.keyboard.press("Enter")
    person.sees("The pause is over", within="#dialog .done")
    assert herd.status()["paused"] is False


def test_who_may_only_look_is_offered_nothing_else(herd: LocalHerd, look: Look) -> None:
    """A viewer signs in by a token that stays in this tab: never in an address, nor on a disk.

    The address is the one that `pgherd demo` prints.
    """
    printed = "\n".join(ways_in(herd))
    *_, variables, status = printed.split("terminal:")[1].strip().splitlines()
    typed = ["sh", "-c", f"{variables}\n{status}"]
    assert "quorum" in subprocess.run(typed, capture_output=True, text=True, check=True).stdout
    made = herd.ask("/tokens", method="POST", body={"role": "viewer", "name": "eve"})
    try:
        person = look(herd.nodes[0], token=None)
        assert f"  {person.url} " in printed
        person.page.get_by_label("Token").fill("nonsense")
        person.button("Sign in").click()
        person.sees("This token is not known here")
        assert person.focused() == "Token"
        person.assert_fit("sign-in")
        person.page.get_by_label("Token").fill(made["token"])
        person.button("Sign in").click()
        person.sees("eve")
        person.sees("Writable", within=".verdict")
        for name in ("Switch over…", "Pause automation…"):
            assert not person.has_button(name)
        person.button("n2", within=".nodes").click()
        person.sees("By election", within="#dialog")
        assert not person.has_button("Maintenance…")
        person.assert_fit("node-of-a-viewer")
        person.button("Close").click()
        assert not any(made["token"] in url for url in [*person.asked, person.page.url])
        kept = person.page.evaluate("[JSON.stringify(localStorage), document.cookie]")
        assert not any(made["token"] in text for text in kept)
        assert made["token"] in person.page.evaluate("JSON.stringify(sessionStorage)")
        herd.ask("/tokens/eve", method="DELETE")
        person.sees("counts no more")
        assert not person.page.locator(".verdict").count()
        person.page.get_by_label("Token").fill(herd.secrets.token)
        person.button("Sign in").click()
        person.button("Sign out").click()
        person.page.get_by_label("Token").wait_for()
        assert herd.secrets.token not in person.page.evaluate("JSON.stringify(sessionStorage)")
    finally:
        if any(one["name"] == "eve" for one in herd.ask("/tokens")["tokens"]):
            herd.ask("/tokens/eve", method="DELETE")


def test_maintenance_of_a_node_with_its_plan_first(herd: LocalHerd, look: Look) -> None:
    """From the drawing to the node, what was looked at, and into the ledger; then out again."""
    first, other = replicas(herd)
    person = look(first)
    person.sees("live", within=".events .stream")
    person.page.get_by_role("button", name=f"{other}, replica").click()
    person.button("Maintenance…", within="#dialog").click()
    person.sees("What was looked at", within="#dialog")
    person.sees(f"sync set without {other}", within="#dialog")
    person.page.get_by_label("Why").fill("new disk")
    person.assert_fit("maintenance-plan")
    person.button(f"Begin maintenance of {other}").click()
    person.sees("maintenance", within="#dialog .done")
    assert herd.ask(f"/nodes/{other}")["maintenance"]["reason"] == "new disk"
    person.button("Close").click()
    person.until(f"document.querySelector('g[data-name={other}]').textContent.includes('mainten')")
    person.page.get_by_role("button", name=f"{other}, replica").click()
    person.button("End maintenance…", within="#dialog").click()
    person.button("End maintenance", within="#dialog").click()
    person.sees("takes part again", within="#dialog .done")
    assert herd.ask(f"/nodes/{other}")["maintenance"] is None


def test_old_data_says_so(herd: LocalHerd, look: Look) -> None:
    """A node that is stopped answers nobody: its page says since when, offers nothing, and where
    else to look; it goes on by itself once the node does. Sessions of other nodes are seen."""
    at, other = replicas(herd)
    person = look(at)
    with psycopg.connect(herd.dsn_proxies()[herd.data.index(other)]):
        person.until("/[1-9]\\d* session/.test(document.querySelector('.proxies')?.textContent)")
    assert person.has_button("Switch over…")
    person.button("Pause automation…").click()
    assert person.has_button("Pause")
    herd.pause_node(at)
    try:
        person.sees("This node does not answer", within="#dialog")
        assert not person.has_button("Pause"), "it would be done whenever the node wakes"
        person.button("Close").click()
        person.sees(f"Stale: {at} has not answered", within="#banner")
        person.sees("Last seen: writable", within=".verdict")
        assert not person.has_button("Switch over…")
        person.page.evaluate(SLEPT)
        person.sees("has not answered for 8 h", within="#banner")
        [there] = [
            one for one in person.page.locator("#banner a").all() if one.inner_text() == other
        ]
        assert there.get_attribute("href").endswith(f":{herd.places[other].ports.api}/ui/")
        person.assert_fit("stale")
    finally:
        herd.resume_node(at)
    person.until("!document.querySelector('#banner').textContent")
    person.button("Switch over…").wait_for()
    herd.wait_stable(60)


def test_a_page_that_nobody_sees_hangs_up(herd: LocalHerd, look: Look) -> None:
    """And goes on after the newest event it had, once it is seen again: nothing is missed."""
    person = look(herd.wait_primary())
    person.sees("live", within=".events .stream")
    with person.page.expect_event("requestfailed", lambda one: "follow=1" in one.url):
        person.page.evaluate(HIDDEN, True)
    herd.ask("/cluster/pause", method="POST", body={"reason": "meanwhile"})
    herd.ask("/cluster/resume", method="POST", body={})
    with person.page.expect_request(lambda one: "follow=1" in one.url) as asked:
        person.page.evaluate(HIDDEN, False)
    assert asked.value.headers["last-event-id"]
    person.sees("meanwhile", within=".log")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_node_without_a_quorum_does_not_speak_for_the_others(
    herd: LocalHerd, look: Look, theme: str
) -> None:
    """By the API's word for it: the page names other nodes to ask, and offers nothing."""
    more = {"has_quorum": False, "status": "down", "raft_leader": None, "paused": False}
    told = {"/cluster/status": {**herd.status(), **more}}
    person = look(herd.nodes[0], theme=theme, told=told)
    person.sees("No quorum here", within=".verdict")
    person.sees("the others may go on without it", within=".verdict")
    assert person.page.locator(".verdict a").count() == len(herd.nodes) - 1
    assert not person.has_button("Switch over…")
    person.assert_fit(f"no-quorum-{theme}")


def test_names_are_text_whatever_is_in_them(herd: LocalHerd, look: Look) -> None:
    """Answers with markup everywhere, as a broken node could give them: shown letter by letter."""
    paths = ("/nodes", "/proxies", "/history?limit=500")
    person = look(herd.wait_primary(), told={path: spoilt(herd.ask(path)) for path in paths})
    person.sees(MARKUP, within=".nodes")
    person.until("document.querySelector('.timeline tbody')?.textContent.includes('<img')")
    assert person.page.locator("img, [onerror]").count() == 0
    assert person.page.title() != "1"


def spoilt(value: Any) -> Any:
    """The same answer, in which every name and reason is markup."""
    if isinstance(value, dict):
        names = ("name", "reason", "problem", "state_reason", "doing", "zone")
        return {key: MARKUP if key in names else spoilt(one) for key, one in value.items()}
    return [spoilt(one) for one in value] if isinstance(value, list) else value
