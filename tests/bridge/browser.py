"""A headless browser and a Solara server, for tests of pages: processes of our own, on loopback."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest
from websockets.sync.client import ClientConnection, connect

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
START_S = 120.0
"""A server imports, and a browser starts, on a busy machine."""
PAUSE_S = 0.1
"""Between two looks at another process, which needs the processor to get on."""


class Tab:
    """A page in the browser, driven by the browser's own protocol (CDP).

    Attributes:
        errors: What scripts of the page threw.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        self.call("Runtime.enable")
        self.call("Page.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Ask the browser for something, and wait for its answer."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            told = json.loads(self._connection.recv(timeout=START_S))
            if told.get("method") == "Runtime.exceptionThrown":
                self.errors.append(json.dumps(told["params"]))
            if told.get("id") == number:
                assert "error" not in told, told
                return dict(told["result"])

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def text(self) -> str:
        """What a person reads on the page."""
        return str(self.run("document.body ? document.body.innerText : ''"))

    def wait_for(self, *texts: str) -> str:
        """The page's text, as soon as all of these stand in it."""
        return waited(self.text, lambda text: all(each in text for each in texts))

    def click(self, label: str) -> None:
        """Click the button with this label, as soon as there is one."""
        button = (
            "[...document.querySelectorAll('button')].find("
            f"each => each.innerText.trim().toLowerCase() === {json.dumps(label.lower())})"
        )
        waited(lambda: self.run(f"{button} !== undefined && !{button}.disabled"), bool)
        self.run(f"{button}.click()")

    def choose(self, label: str, item: str) -> None:
        """Open the list with this label, and choose an item of it, as soon as these are there."""
        slots = (
            "[...document.querySelectorAll('.v-select__slot')].find("
            f"each => each.innerText.startsWith({json.dumps(label)}))"
        )
        items = (
            "[...document.querySelectorAll('.menuable__content__active .v-list-item')].find("
            f"each => each.innerText.trim() === {json.dumps(item)})"
        )
        waited(lambda: self.run(f"{slots} !== undefined"), bool)
        self.run(f"{slots}.click()")
        waited(lambda: self.run(f"{items} !== undefined"), bool)
        self.run(f"{items}.click()")

    def screenshot(self, path: Path) -> None:
        """Keep what the page looks like."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))


def waited(look: Callable[[], T], good: Callable[[T], object]) -> T:
    """What a look shows, as soon as it is good; a look is a question to another process."""
    deadline = time.monotonic() + START_S
    while not good(found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"after {START_S:.0f} s there still was only: {found}")
        time.sleep(PAUSE_S)
    return found


@contextlib.contextmanager
def served(page: Path, log: Path) -> Generator[str, None, None]:
    """A Solara server with this page; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-m", "solara", "run", str(page), "--host", "127.0.0.1"),
        *("--port", str(port), "--no-open", "--production"),
    ]
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(ROOT))))
    environment = {**os.environ, "PYTHONPATH": path, "SOLARA_TELEMETRY_MIXPANEL_ENABLE": "False"}
    with log.open("w") as out, process(command, out, environment) as server:
        address = f"http://127.0.0.1:{port}"
        waited(lambda: (answers(f"{address}/readyz"), server.poll()), any)
        if server.poll() is not None:
            pytest.fail(f"solara ended at once: {log.read_text()[-2000:]}")
        for script in re.findall(r'src="(/_solara/cdn/[^"]+)"', fetched(address)):
            if not fetched(address + script):
                pytest.skip(
                    f"Solara's scripts are not here, and their host cannot be reached: {script}. "
                    "Install solara-assets, or set SOLARA_ASSETS_PROXY_CACHE_DIR to a copy."
                )
        yield address


@contextlib.contextmanager
def opened(address: str, profile: Path) -> Generator[Tab, None, None]:
    """A tab of a headless Chromium with a profile of its own, at this address."""
    assert CHROMIUM is not None, "whoever asks looks first"
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--remote-debugging-port=0", f"--user-data-dir={profile}", "--window-size=1400,1800"),
        *("--no-first-run", "--disable-background-networking", "about:blank"),
    ]
    with process(command, subprocess.DEVNULL, dict(os.environ)):
        told = profile / "DevToolsActivePort"
        port = waited(lambda: told.read_text() if told.exists() else "", bool).split()[0]
        tabs = waited(lambda: fetched(f"http://127.0.0.1:{port}/json/list"), bool)
        found = next(each for each in json.loads(tabs) if each["type"] == "page")
        # No pings: on a busy machine the browser may be late with its answer, and that is no error.
        socket_options: dict[str, Any] = {"max_size": None, "proxy": None, "ping_interval": None}
        with connect(found["webSocketDebuggerUrl"], **socket_options) as connection:
            tab = Tab(connection)
            tab.call("Page.navigate", url=address)
            yield tab


@contextlib.contextmanager
def process(
    command: list[str], out: IO[str] | int, environment: dict[str, str]
) -> Generator[subprocess.Popen[bytes], None, None]:
    """A process that ends with the block."""
    running = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=out, stderr=subprocess.STDOUT
    )
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(timeout=20)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def answers(address: str) -> bool:
    return bool(fetched(address))


def fetched(address: str) -> str:
    """What a server of ours says; nothing while it is not there."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(address, timeout=30) as answer:
            return str(answer.read().decode())
    except (urllib.error.URLError, OSError):
        return ""
