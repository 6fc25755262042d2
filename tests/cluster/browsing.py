"""A person at the dashboard, in a real browser: what is seen, clicked and typed, and what is wrong.

Owns the browser (Debian's Chromium, without a screen), what every page is looked at for (calls that
leave the node, messages of the console, names of controls, contrast, width), and the pictures that
are kept. Leaves what a herd does to `proof`.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pgherd.proof.herd import LocalHerd

ROOT = Path(__file__).resolve().parents[2]
PICTURES = Path(os.environ.get("PGHERD_PICTURES") or ROOT / "build" / "dashboard")
"""Of the last run; nobody compares them but people."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SOON_MS = 30_000
POLL_MS = 100
WIDE = {"width": 1360, "height": 900}
PHONE = {"width": 360, "height": 780}
TABS_MOST = 60
LEAST_CONTRAST = 4.5

WRONG = r"""
() => {
  const found = [];
  const rgb = (text) => (text.match(/[\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map((v) => v / 255)
      .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const contrast = (one, other) => {
    const [a, b] = [light(one), light(other)].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const solid = (color) => color.length === 3 || color[3] === 1;
  const opacity = (element) => {
    let found = 1;
    for (let at = element; at; at = at.parentElement) found *= getComputedStyle(at).opacity;
    return found;
  };
  const blended = (one, other, share) =>
    one.slice(0, 3).map((v, at) => v * share + other[at] * (1 - share));
  const ground = (element) => {
    const rect = element.closest("g")?.querySelector("rect");
    if (element.namespaceURI.endsWith("svg") && rect) {
      const fill = getComputedStyle(rect).fill;
      if (fill !== "none") return rgb(fill);
    }
    for (let at = element; at; at = at.parentElement) {
      const color = rgb(getComputedStyle(at).backgroundColor);
      if (color.length && solid(color)) return color;
    }
    return [255, 255, 255];
  };
  const dialog = document.querySelector("dialog[open]");
  const scope = dialog || document.body;
  const hidden = "title, option, noscript, .unseen, .skip";
  const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest(hidden);
  const walker = document.createTreeWalker(scope, NodeFilter.SHOW_TEXT);
  for (let text = walker.nextNode(); text; text = walker.nextNode()) {
    const element = text.parentElement;
    if (!text.data.trim() || !seen(element)) continue;
    const style = getComputedStyle(element);
    const color = rgb(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
    const under = ground(element);
    const ratio = contrast(blended(color, under, opacity(element)), under);
    if (ratio < LEAST) found.push(`contrast ${ratio.toFixed(2)}: ${text.data.slice(0, 40)}`);
  }
  const named = (e) =>
    e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.[0]?.textContent.trim();
  const controls = "button, a[href], input, select, [role=button], [tabindex='0']";
  for (const element of scope.querySelectorAll(controls)) {
    if (!seen(element)) continue;
    if (!named(element)) found.push(`no name: ${element.outerHTML.slice(0, 120)}`);
    const { width, height } = element.getBoundingClientRect();
    if (Math.min(width, height) < 15) found.push(`too small: ${named(element)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`two of #${id}`);
  for (const name of ["aria-labelledby", "aria-describedby", "for"])
    for (const element of scope.querySelectorAll(`[${name}]`))
      if (seen(element) && !document.getElementById(element.getAttribute(name)))
        found.push(`${name} leads nowhere: ${element.getAttribute(name)}`);
  for (const svg of scope.querySelectorAll("svg"))
    if (!svg.getAttribute("aria-label") && !svg.hasAttribute("aria-hidden"))
      found.push(`a drawing without words: ${svg.outerHTML.slice(0, 80)}`);
  let level = 0;
  for (const heading of scope.querySelectorAll("h1, h2, h3")) {
    const now = Number(heading.nodeName[1]);
    if (!dialog && now > level + 1) found.push(`heading skips a level: ${heading.textContent}`);
    level = now;
  }
  for (const name of ["header", "main", "footer"])
    if (document.querySelectorAll(name).length !== 1) found.push(`not one ${name}`);
  if (!document.documentElement.lang) found.push("no language");
  return found;
}
""".replace("LEAST", str(LEAST_CONTRAST))

TOO_WIDE = """
() => {
  const most = document.documentElement.clientWidth;
  const found = document.documentElement.scrollWidth > most ? ["the page scrolls sideways"] : [];
  for (const element of document.querySelectorAll("body *")) {
    if (element.closest(".scrolls, .unseen, thead")) continue;
    if (element.getBoundingClientRect().right > most + 0.5)
      found.push(`${element.nodeName} ${element.textContent.slice(0, 40)}`);
  }
  return found;
}
"""


def browser_path() -> str:
    """Where the browser is; without one there is nothing to prove here."""
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip("no Chromium here: apt-get install chromium, and ./dev test does it as root")
    return found[0]


@contextmanager
def browsing() -> Iterator[Any]:
    """One browser, for many people."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = browser_path()
    words = ["--no-sandbox"] if os.geteuid() == 0 else []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=words, timeout=60_000)
        try:
            yield browser
        finally:
            browser.close()


class Person:
    """Somebody who looks at one node's dashboard. token: None for one who has to sign in.

    told: answers by path that the browser is given in place of the node's.
    """

    def __init__(
        self,
        browser: Any,
        herd: LocalHerd,
        name: str,
        *,
        token: str | None,
        size: dict[str, int] = WIDE,
        theme: str = "light",
        told: dict[str, Any] | None = None,
    ) -> None:
        place = herd.places[name]
        self.url = f"http://{place.host}:{place.ports.api}/ui/"
        self._context = browser.new_context(viewport=size, color_scheme=theme)
        self._context.set_default_timeout(SOON_MS)
        self.page = self._context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda said: self.complaints.append(f"{said.type}: {said.text}"))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        for path, answer in (told or {}).items():
            self.page.route(f"**/api/v1{path}", answering(answer))
        if token is not None:
            self.page.add_init_script(f"sessionStorage.setItem('pgherd.token', '{token}')")

    def come(self) -> None:
        """Open the page and wait until it has something to show."""
        self.page.goto(self.url)
        self.page.locator("#page h1").wait_for()

    def go(self) -> None:
        """Close it; nothing left this node, and the console is silent."""
        self.page.unroute_all(behavior="ignoreErrors")
        self._context.close()
        elsewhere = [url for url in self.asked if not url.startswith(self.url[: -len("ui/")])]
        assert not elsewhere, elsewhere
        told = [text for text in self.complaints if not is_expected(text)]
        assert not told, told

    def sees(self, text: str, *, within: str = "body") -> None:
        """Wait until it is there."""
        self.page.locator(within).get_by_text(text).first.wait_for()

    def until(self, condition: str) -> None:
        """Wait for an expression of the page's, whose policy lets nobody evaluate text in it."""
        until = time.monotonic() + SOON_MS / 1000
        while not self.page.evaluate(condition):
            assert time.monotonic() < until, f"never so: {condition}"
            self.page.wait_for_timeout(POLL_MS)

    def button(self, name: str, *, within: str = "body") -> Any:
        """A button by the name that a screen reader says."""
        return self.page.locator(within).get_by_role("button", name=name, exact=True)

    def has_button(self, name: str) -> bool:
        """Whether it is offered."""
        return bool(self.button(name).count())

    def tab_to(self, name: str) -> None:
        """Go on with the Tab key until a control of this name has the focus."""
        passed = []
        for _ in range(TABS_MOST):
            self.page.keyboard.press("Tab")
            passed.append(self.focused())
            if passed[-1] == name:
                return
        raise AssertionError(f"{name} is not reached by Tab: {passed}")

    def focused(self) -> str:
        """The name of what has the focus."""
        told: str = self.page.evaluate(
            """() => {
              const at = document.activeElement;
              const label = at.labels?.[0]?.textContent || at.textContent;
              return (at.getAttribute("aria-label") || label).trim();
            }"""
        )
        return told

    def settle(self) -> None:
        """Wait until the drawings have the width that there is for them."""
        self.until(
            """(() => {
              const drawing = document.querySelector(".drawing");
              const room = document.querySelector(".columns > .left")?.clientWidth;
              return !drawing || Number(drawing.getAttribute("width")) === Math.max(300, room);
            })()"""
        )

    def assert_fit_everywhere(self, picture: str) -> None:
        """As `assert_fit`, on a desk and on a phone, in light and dark."""
        for place, size in (("wide", WIDE), ("phone", PHONE)):
            for theme in ("light", "dark"):
                self.page.set_viewport_size(size)
                self.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
                self.settle()
                self.assert_fit(f"{picture}-{place}-{theme}")

    def assert_fit(self, picture: str) -> None:
        """Nothing that people could not read, reach or name; a picture is kept."""
        PICTURES.mkdir(parents=True, exist_ok=True)
        is_modal = self.page.locator("dialog[open]").count()
        self.page.screenshot(path=PICTURES / f"{picture}.png", full_page=not is_modal)
        assert not (found := self.page.evaluate(WRONG)), found
        assert not (found := self.page.evaluate(TOO_WIDE)), found


def answering(answer: Any) -> Callable[[Any], None]:
    """Have a request answered so, without asking the node."""
    return lambda route: route.fulfill(json=answer)


def is_expected(text: str) -> bool:
    """What the browser says of answers that are errors, and of a node that does not answer."""
    return bool(re.search(r"Failed to load resource|net::ERR_", text))
