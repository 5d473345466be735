"""Headless Chromium by its own protocol, over a pipe: https://chromedevtools.github.io/devtools-protocol/"""

import json
import os
import shutil
import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

# The pipes have to be 3 and 4 in the browser.
PLUG = """
import os, sys
orders, answers = int(sys.argv[1]), int(sys.argv[2])
orders, answers = os.dup(orders), os.dup(answers)
while min(orders, answers) < 5:
    orders, answers = os.dup(orders), os.dup(answers)
os.dup2(orders, 3)
os.dup2(answers, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    return next((path for path in map(shutil.which, NAMES) if path), None)


NAVIGATED = ("Inspected target navigated or closed", "Execution context was destroyed.", "Cannot find default context")


class NavigatedError(Exception):
    """The page that an order was for gave way to the next one in that moment."""


class Browser:
    """A browser that runs: `Page`s of it know nothing of each other, and one is open at a time."""

    def __init__(self, orders: int, answers: BinaryIO) -> None:
        self._orders = orders
        self._answers = answers
        self._count = 0

    def order(self, method: str, session: str | None, seen: list[dict[str, Any]], **params: Any) -> Any:
        """Give an order and return its result; events that come meanwhile are added to `seen`."""
        self._count += 1
        order = {"id": self._count, "method": method, "params": params}
        if session:
            order["sessionId"] = session
        rest = memoryview(json.dumps(order).encode() + b"\0")
        while rest:
            rest = rest[os.write(self._orders, rest) :]
        while True:
            answer = self.next()
            if answer.get("id") == self._count:
                if answer.get("error", {}).get("message") in NAVIGATED:
                    raise NavigatedError(answer)
                assert "error" not in answer, answer
                return answer["result"]
            seen.append(answer)

    def next(self) -> dict[str, Any]:
        text = bytearray()
        while (byte := self._answers.read(1)) != b"\0":
            assert byte, "the browser has gone"
            text += byte
        answer: dict[str, Any] = json.loads(text)
        return answer

    @contextmanager
    def page(self, downloads: Path) -> Iterator["Page"]:
        """A page with cookies, a storage and a cache of its own."""
        downloads.mkdir(parents=True)
        context = self.order("Target.createBrowserContext", None, [])["browserContextId"]
        try:
            yield Page(self, context, downloads)
        finally:
            self.order("Target.disposeBrowserContext", None, [], browserContextId=context)


class Page:
    """One page of a browser that saves what is downloaded in a folder."""

    def __init__(self, browser: Browser, context: str, downloads: Path) -> None:
        self._browser = browser
        self._session: str | None = None
        self._events: list[dict[str, Any]] = []
        self._seen: list[dict[str, Any]] = []
        behavior = {"behavior": "allow", "downloadPath": str(downloads), "eventsEnabled": True}
        self._order("Browser.setDownloadBehavior", browserContextId=context, **behavior)
        target = self._order("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self._session = self._order("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._order(f"{domain}.enable")

    def open(self, url: str) -> None:
        self._order("Page.navigate", url=url)
        self._event("Page.loadEventFired")

    def run(self, script: str) -> Any:
        """The value of an expression, or what its promise comes to. A page that is just giving way to the next answers
        nothing: the next is asked then. What leads there itself is answered before."""
        for left in range(50, -1, -1):
            try:
                answer = self._order("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
                break
            except NavigatedError:
                if not left:
                    raise
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def complaints(self) -> list[str]:
        """Errors and warnings so far: the scripts', and the browser's own (a breach of a Content-Security-Policy)."""
        result = [str(params["exceptionDetails"]) for params in self._all("Runtime.exceptionThrown")]
        result += [str(params["args"]) for params in self._all("Runtime.consoleAPICalled") if params["type"] == "error"]
        entries = [params["entry"] for params in self._all("Log.entryAdded")]
        return result + [entry["text"] for entry in entries if entry["level"] in ("error", "warning")]

    def requested(self) -> list[str]:
        """The address of every request so far."""
        return [params["request"]["url"] for params in self._all("Network.requestWillBeSent")]

    def show_as(self, *, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Have a window of this size, in CSS pixels, and an owner who prefers `light` or `dark`."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self._order("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._order("Emulation.setEmulatedMedia", features=features)

    def submit(self, form: str) -> None:
        """Press the first button of a form, by its CSS selector, and wait for the page that follows."""
        self.click(f"{form} button")

    def click(self, what: str) -> None:
        """Click the first element of a CSS selector, and wait for the page that follows."""
        self.run("null")
        self._events.clear()
        self.run(f"document.querySelector({json.dumps(what)}).click()")
        self._event("Page.loadEventFired")

    def press(self, key: str) -> None:
        """Press a key that writes nothing (`Tab`, `Enter`)."""
        code = {"Tab": 9, "Enter": 13, "Escape": 27}[key]
        for kind in ("rawKeyDown", "keyUp"):
            self._order("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    def without_scripts(self) -> None:
        """Run no script of the pages that are opened from now on."""
        self._order("Emulation.setScriptExecutionDisabled", value=True)

    def before_each_page(self, script: str) -> None:
        """Run a script in every page that is opened from now on, before any of its own."""
        self._order("Page.addScriptToEvaluateOnNewDocument", source=script)

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Write a PNG of the whole page, or of what the window shows."""
        answer = self._order("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(b64decode(answer["data"]))

    def downloaded(self) -> str:
        """The name that the next download was saved under."""
        name: str = self._event("Browser.downloadWillBegin")["suggestedFilename"]
        while self._event("Browser.downloadProgress")["state"] != "completed":
            pass
        return name

    def _order(self, method: str, **params: Any) -> Any:
        session = None if method.startswith(("Browser.", "Target.")) else self._session
        events: list[dict[str, Any]] = []
        answer = self._browser.order(method, session, events, **params)
        self._seen += events
        self._events += events
        return answer

    def _event(self, method: str) -> Mapping[str, Any]:
        while True:
            event = self._events.pop(0) if self._events else self._next()
            if event.get("method") == method:
                params: dict[str, Any] = event["params"]
                return params

    def _all(self, method: str) -> list[Mapping[str, Any]]:
        self.run("null")  # whatever happened before has been told by then
        return [event["params"] for event in self._seen if event.get("method") == method]

    def _next(self) -> dict[str, Any]:
        event = self._browser.next()
        self._seen.append(event)
        return event


@contextmanager
def a_browser(chromium: str, home: Path) -> Iterator[Browser]:
    """A browser with a profile of its own under `home`, until the block ends."""
    (order_out, order_in), (answer_out, answer_in) = os.pipe(), os.pipe()
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
    options += ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    options += ["--disable-quic"]
    browser = subprocess.Popen(
        [
            sys.executable,
            "-c",
            PLUG,
            str(order_out),
            str(answer_in),
            chromium,
            *options,
            f"--user-data-dir={home}/profile",
        ],
        pass_fds=(order_out, answer_in),
        stderr=subprocess.DEVNULL,
    )
    os.close(order_out)
    os.close(answer_in)
    answers = os.fdopen(answer_out, "rb")
    try:
        yield Browser(order_in, answers)
    finally:
        browser.kill()
        browser.wait()
        os.close(order_in)
        answers.close()


@contextmanager
def one_page(chromium: str, home: Path) -> Iterator[Page]:
    """A page of a browser that is there for it alone."""
    with a_browser(chromium, home) as running, running.page(home / "downloads") as page:
        yield page
