"""A real web interface in its own process, for the tests that need one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests.server import ROOT, free_port


class UiServer:
    """`python -m gradio_ui` in front of an API.

    Parameters
    ----------
    folder
        The folder of its log and its temporary files.
    api_url
        Address of the API, which need not be running.
    settings
        Environment variables.
    """

    def __init__(self, folder: Path, api_url: str, **settings: str) -> None:
        self.port = free_port()
        self.log = folder / "ui.log"
        self.temporary = folder / "tmp"
        self.settings = {
            "UI_API_URL": api_url,
            "UI_PORT": str(self.port),
            "TMPDIR": str(self.temporary),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.temporary.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gradio_ui"],
                cwd=ROOT,
                env={**os.environ, **self.settings},
                stdout=log,
                stderr=log,
            )
        end = time.monotonic() + 60
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text("utf-8")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.url}/livez", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"the interface did not start:\n{self.log.read_text('utf-8')}")

    def stop(self) -> None:
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None


@contextlib.contextmanager
def interface(folder: Path, api_url: str, **settings: str) -> Iterator[UiServer]:
    """Run an interface inside a `with` block."""
    server = UiServer(folder, api_url, **settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()
