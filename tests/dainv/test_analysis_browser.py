"""The report in a browser: no error, no request, any width, in the dark, on paper, and without scripts."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from analysis_runs import analyzed_run, levels

from dainv.analysis.comparison import compare
from dainv.analysis.outputs import write_outputs
from dainv.analysis.results import Arm

NAMES = ("chromium", "chromium-browser", "chromium-headless-shell", "chrome-headless-shell", "google-chrome", "chrome")
BROWSER = next((path for path in map(shutil.which, NAMES) if path), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason=f"no browser installed (looked for {', '.join(NAMES)})")

# A chart of its own width and a table may scroll in their frame; the page may not.
WIDTHS = {"phone": 360, "tablet": 768, "desk": 1280}


class Browser:
    """A headless browser, driven by DevTools messages over a pair of pipes."""

    def __init__(self, profile: Path) -> None:
        assert BROWSER is not None
        to_browser, from_browser = os.pipe(), os.pipe()
        # 3 and 4 are where the browser reads and writes; none of the pipes' ends may be one of them before that
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in (*to_browser, *from_browser)]
        for end in (*to_browser, *from_browser):
            os.close(end)
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        options += ["--disable-background-networking", "--disable-component-update", f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{ends[0]} 4>&{ends[3]}', "browser", BROWSER, *options, "about:blank"],
            pass_fds=[ends[0], ends[3]],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(ends[0])
        os.close(ends[3])
        self._write, self._read = os.fdopen(ends[1], "wb", buffering=0), os.fdopen(ends[2], "rb")
        self._numbers = itertools.count(1)
        self._buffer = b""
        self.events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        while (answer := self._message()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def wait_for(self, event: str) -> None:
        while not any(one.get("method") == event for one in self.events):
            self.events.append(self._message())

    def _message(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            got = os.read(self._read.fileno(), 1 << 20)
            assert got, "the browser has ended"
            self._buffer += got
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def open(self, page: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=page.as_uri())
        self.wait_for("Page.loadEventFired")

    def of(self, event: str) -> list[dict[str, Any]]:
        return [one["params"] for one in self.events if one.get("method") == event]

    def evaluate(self, expression: str) -> Any:
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def media(self, kind: str, scheme: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=kind, features=features)

    def width(self, pixels: int) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=pixels, height=800, deviceScaleFactor=1, mobile=True)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._write.close()
        self._read.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three runs in two arms, with everything that a report can have."""
    folder = tmp_path_factory.mktemp("report")
    runs = [
        analyzed_run(
            folder,
            f"run {alpha} {seed}",
            alpha=alpha,
            seed=seed,
            epochs=12,
            label=f"a run with a long name, alpha {alpha}, seed {seed}",
            sigma=levels(0.4, *[0.3 + alpha] * 9, shift=0.01 * seed),
        )
        for alpha, seed in ((0.0, 0), (0.1, 0), (0.1, 1))
    ]
    arms = [Arm("baseline", (runs[0],)), Arm("data augmentation invariance", tuple(runs[1:]))]
    return write_outputs(arms, compare(arms), ["Something is doubtful."], {"dainv": "0"}, folder / "out").report


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture
def opened(browser: Browser, page: Path) -> Browser:
    browser.media("screen", "light")
    browser.width(WIDTHS["desk"])
    browser.open(page)
    return browser


def test_no_error_and_no_request(opened, page):
    opened.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    asked = [one["request"]["url"] for one in opened.of("Network.requestWillBeSent")]
    assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
    assert opened.of("Runtime.exceptionThrown") == []
    assert opened.of("Runtime.consoleAPICalled") == []
    assert [one["entry"] for one in opened.of("Log.entryAdded")] == []


def test_the_page_s_policy_stops_requests(opened):
    opened.evaluate("document.body.append(Object.assign(new Image(), {src: 'file:///elsewhere.png'}))")
    opened.wait_for("Log.entryAdded")
    assert "Content Security Policy" in opened.of("Log.entryAdded")[0]["entry"]["text"]


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_any_width(opened, width):
    opened.width(WIDTHS[width])
    assert opened.evaluate("document.documentElement.clientWidth") == WIDTHS[width]
    assert opened.evaluate("document.documentElement.scrollWidth") == WIDTHS[width]
    opened.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert opened.evaluate("document.documentElement.scrollWidth") == WIDTHS[width]


def contrast(browser: Browser, selector: str) -> float:
    """Contrast of a text with the page, by the formula of the Web Content Accessibility Guidelines."""

    def luminance(colour: str) -> float:
        channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(share * value for share, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    ink = browser.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
    paper = browser.evaluate("getComputedStyle(document.body).backgroundColor")
    lighter, darker = sorted((luminance(ink), luminance(paper)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_are_legible_and_have_drawings_of_their_own(opened, scheme):
    opened.media("screen", scheme)
    for selector in ("p", ".note", "td small", ".doubts strong", "a"):
        assert contrast(opened, selector) >= 4.5, selector
    paper = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 22, 22)"}[scheme]
    own = "[...document.images].map(image => image.complete && (image.currentSrc === image.src))"
    waiting_until = time.monotonic() + 20  # the browser changes drawings when it has time
    while opened.evaluate(own) != [scheme == "light"] * 2 and time.monotonic() < waiting_until:
        time.sleep(0.1)
    assert opened.evaluate(own) == [scheme == "light"] * 2
    assert all(opened.evaluate("[...document.images].map(image => image.naturalWidth)"))


def test_paper_is_light_and_shows_what_was_folded(opened):
    opened.media("print", "dark")
    assert opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert opened.evaluate("[...document.images].every(image => image.currentSrc === image.src)")
    opened.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert opened.evaluate("[...document.querySelectorAll('details')].every(part => part.open)")


COLUMN = """(() => {
  const table = document.querySelectorAll("table")[%d];
  return [...table.tBodies[0].rows].map(row => row.cells[%d].dataset.sort ?? row.cells[%d].textContent);
})()"""


def test_columns_sort_and_come_back(opened):
    table, column = 1, 3
    head = f'document.querySelectorAll("table")[{table}].tHead.rows[0].cells[{column}]'

    def values() -> list[float]:
        return [float(value) for value in opened.evaluate(COLUMN % (table, column, column))]

    before = values()
    names = opened.evaluate(COLUMN % (table, 0, 0))
    opened.evaluate(f"{head}.querySelector('button').click()")
    assert opened.evaluate(f"{head}.ariaSort") == "descending"
    assert values() == sorted(before, reverse=True)
    opened.evaluate(f"{head}.querySelector('button').click()")
    assert values() == sorted(before)
    opened.evaluate(f"{head}.querySelector('button').click()")
    assert opened.evaluate(f"{head}.ariaSort") is None
    assert opened.evaluate(COLUMN % (table, 0, 0)) == names


def test_everything_is_there_without_scripts(browser, page):
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        assert browser.evaluate("document.querySelectorAll('th button').length") == 0
        assert browser.evaluate("document.querySelectorAll('table').length") >= 5
        assert browser.evaluate("document.querySelectorAll('a[download]').length") == 4
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
