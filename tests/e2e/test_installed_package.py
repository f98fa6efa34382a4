"""The package, installed by pip, answers as the checkout does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.seed_answers import seed_answers
from tests.server import ROOT, Server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


def test_installed_package_answers_as_the_checkout_does(tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    # Its dependencies are those of this environment; nothing is fetched.
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    subprocess.run(
        [*pip, "--no-build-isolation", "--target", str(installed), str(ROOT)], check=True
    )
    server = Server(tmp_path / "state", PYTHONPATH=str(installed))
    server.folder = installed
    checkout = Server(tmp_path / "another")
    try:
        server.start(wait=False)
        checkout.start()
        server.wait_ready()
        assert {worker.cwd() for worker in server.workers()} == {str(installed)}
        assert {worker.cwd() for worker in checkout.workers()} == {str(ROOT)}
        assert seed_answers(server.url) == seed_answers(checkout.url)
    finally:
        server.stop()
        checkout.stop()
