"""The wheel: what is in it, and that the road runs from it where there is no checkout and no network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, as pip would lay it out."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, capture_output=True)
    (wheel,) = folder.glob("edge_tinyml-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_everything_is_in_it(unpacked: Path) -> None:
    """Every tracked file of the packages and of the zoo, and nothing at the top but the packages."""
    listed = subprocess.run(["git", "ls-files", "edge", "firmware_tools", "models"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split():
        assert (unpacked / (f"edge/{name}" if name.startswith("models/") else name)).is_file(), name
    assert {path.name for path in unpacked.iterdir() if path.suffix != ".dist-info"} == {"edge", "firmware_tools"}


def test_the_demo_runs_from_it(unpacked: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge", "demo"]
    if sys.platform == "linux" and shutil.which("unshare") and os.geteuid() == 0:
        command = ["unshare", "-n", *command]  # without a network
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONSAFEPATH": "1"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8")
    assert ran.returncode == 0, ran.stderr
    assert "light_set room=kitchen level=20" in ran.stdout
    assert str(ROOT) not in ran.stdout
    assert not list(tmp_path.iterdir()), "the demo leaves nothing behind"
