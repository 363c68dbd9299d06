"""What all tests share: the tiers, and the one place that knows where the data made by others lies.

Tiers: plain tests run everywhere; `tf` needs TensorFlow; `system` needs programs that pip does not bring; tests that
take `shared_data` need its folder; `board` needs silicon (`--board B --port P`). With EDGE_NO_SKIPS set a skip is a
failure, but for `board`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT.parent / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--board", help="run the board tier on this board")
    parser.addoption("--port", help="the serial port of --board; without it the one board that is plugged in")
    parser.addoption("--by", help="what flashes --board: a flasher's name, or the board's default")


def pytest_configure() -> None:
    """A run that was started in the background ignores Ctrl-C, and so would all that it starts; tests want it heard."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("tf") and importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs TensorFlow: pip install 'edge-tinyml[train]'")
    if item.get_closest_marker("board") and not item.config.getoption("--board"):
        pytest.skip("needs silicon: --board B --port P")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    report = yield
    if report.skipped and os.environ.get("EDGE_NO_SKIPS") and not item.get_closest_marker("board"):
        report.outcome = "failed"
        report.longrepr = f"skipped, where nothing may be: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of test data made by others."""
    if not DATA.is_dir():
        pytest.skip("the folder with test data made by others is not beside the project")
    return DATA


@pytest.fixture(scope="session")
def tool():  # type: ignore[no-untyped-def]
    """tool(name): the path of a program, or a skip."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            pytest.skip(f"{name} is not installed")
        return path

    return find


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images for a board that is plugged into a simulated bus, in old/ and new/."""
    from tests import simulated

    return simulated.build_images(tmp_path_factory.mktemp("images"))
