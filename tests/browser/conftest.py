"""A browser for all tests of this folder, viewers to look at, and pages that complain."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome")
                 if (path := shutil.which(name))), None)  # fmt: skip

QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1440, "height": 900}
SLOW_MS = 30_000
"""How long a page may take where other programs use the machine."""

CONTRAST = """
() => {  // WCAG 2: relative luminance, and 4.5 : 1 for text
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb
      .map((v) => v / 255)
      .map((v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b;
  };
  const bad = [];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    const left_out = "svg, .visually-hidden, .skip, .off, [aria-hidden]";
    if (!own || !element.checkVisibility() || element.closest(left_out)) continue;
    let back = null;
    for (let up = element; up && !back; up = up.parentElement) {
      const colour = parse(getComputedStyle(up).backgroundColor);
      if (colour.length === 3 || colour[3] > .7) back = colour.slice(0, 3);
    }
    const fore = parse(getComputedStyle(element).color).slice(0, 3);
    const [a, b] = [light(fore), light(back || [255, 255, 255])].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    if (ratio < 4.5) bad.push(`${element.className || element.tagName}: ${ratio.toFixed(2)}`);
  }
  return bad;
}
"""


@pytest.fixture(
    scope="package"
)  # it has an event loop, which tests of other folders begin themselves
def browser():
    """Chromium."""
    if CHROMIUM is None:
        pytest.skip("needs Debian's package chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=CHROMIUM, args=list(QUIET), timeout=90_000)
        yield made
        made.close()


@contextmanager
def running_viewer(data: str, *options: str, cache: Path) -> Iterator[str]:
    """The address of a viewer in a process of its own, while the block lasts."""
    server = subprocess.Popen(
        [*(sys.executable, "-m", "pad_pipeline", "view", data), *options, "--port", "0"],
        env={**os.environ, "PAD_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[2]
    finally:
        server.terminate()
        server.wait(30)


@contextmanager
def open_tab(browser, address: str, **options):
    """A page in a profile of its own, on which every complaint of the browser fails the test."""
    context = browser.new_context(**{"viewport": DESKTOP, "base_url": address, **options})
    context.set_default_timeout(SLOW_MS)
    made = context.new_page()
    complaints: list[str] = []
    made.on(
        "console",
        lambda message: (
            complaints.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.on("dialog", lambda dialog: (complaints.append("a dialog"), dialog.dismiss()))
    yield made
    context.close()
    assert complaints == []


def until(tab, holds: Callable[[], bool]) -> None:
    """Waits; not by Playwright's way, which would need `eval`."""
    deadline = time.monotonic() + SLOW_MS / 1000
    while not holds():
        assert time.monotonic() < deadline
        tab.wait_for_timeout(20)
