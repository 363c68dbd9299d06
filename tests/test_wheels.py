"""The wheels for another computer: pip for real, from a folder instead of an index; what is kept; what may go wrong."""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import pytest
from as_pi import WHEEL, make_wheel, put_wheel

from edge.run.agent.weight_cache import host_folder
from edge.run.pi import runtime_files, wheels
from edge.run.pi.wheels import Platform
from firmware_tools.errors import MissingTool, UserError

PI = Platform("aarch64", (3, 11), (2, 36))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is empty, and a pip that knows no index but the folder `index`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in (("CONFIG_FILE", "/dev/null"), ("NO_INDEX", "1"), ("FIND_LINKS", str(tmp_path / "index"))):
        monkeypatch.setenv(f"PIP_{name}", value)
    (tmp_path / "index").mkdir()
    return host_folder() / "wheels" / PI.name


def offer(tmp_path: Path, tag: str, files: dict[str, str] | None = None) -> Path:
    path = tmp_path / "index" / f"tiny_thing-1.0-{tag}.whl"
    make_wheel(path, files or {"tiny_thing.py": "x = 1\n"})
    return path


def test_a_wheel_is_downloaded_once_for_that_platform(tmp_path: Path, cache: Path) -> None:
    wrong = offer(tmp_path, "cp311-cp311-manylinux_2_27_x86_64")
    offered = offer(tmp_path, "cp311-cp311-manylinux_2_27_aarch64")
    (found,) = wheels.wheels(PI, [WHEEL])
    assert found.path == cache / offered.name and found.path.read_bytes() == offered.read_bytes()
    offered.unlink()
    assert wheels.wheels(PI, [WHEEL]) == [found]  # offline
    assert not list(cache.glob(".coming-*"))
    wrong.unlink()


def test_a_kept_wheel_that_has_changed_is_downloaded_again(tmp_path: Path, cache: Path) -> None:
    offered = offer(tmp_path, "py3-none-any")
    (found,) = wheels.wheels(PI, [WHEEL])
    found.path.write_bytes(found.path.read_bytes() + b"\0")
    assert wheels.wheels(PI, [WHEEL]) == [found]
    assert found.path.read_bytes() == offered.read_bytes()


@pytest.mark.parametrize("tag", ["cp312-cp312-manylinux_2_27_aarch64", "cp311-cp311-manylinux_2_39_aarch64"])
def test_no_wheel_for_that_computer_is_one_clear_error(tmp_path: Path, tag: str) -> None:
    offer(tmp_path, tag)
    with pytest.raises(UserError) as caught:
        wheels.wheels(PI, [WHEEL])
    assert caught.value.message == "the package index has no wheel of tiny-thing==1.0 for aarch64-cp311-glibc2.36"


def test_no_network_and_an_empty_cache_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # nothing listens there
    with pytest.raises(UserError) as caught:
        wheels.wheels(PI, [WHEEL])
    assert caught.value.message == "tiny-thing==1.0 is not in the cache, and pip reaches no package index"
    assert "later deploys need no network" in caught.value.hint


def test_no_pip_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingTool, match="pip, which downloads the runtime") as caught:
        wheels.wheels(PI, [WHEEL])
    assert "ensurepip" in caught.value.hint


def test_what_each_platform_gets() -> None:
    assert [name.partition("==")[0] for name in wheels.requirements(PI)] == ["ai-edge-litert", "ml-dtypes", "numpy"]
    assert wheels.requirements(Platform("aarch64", (3, 10), (2, 35)))[-1] == "numpy==2.2.6"
    assert wheels.requirements(Platform("armv7l", (3, 11), (2, 36))) == ["tflite-runtime==2.14.0"]
    assert PI.tags[0] == "manylinux_2_36_aarch64" and PI.tags[-2:] == [
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
    ]


def test_what_nothing_imports_is_left_out() -> None:
    kept = ["numpy/__init__.py", "numpy/_core/_multiarray_umath.so", "numpy.libs/libopenblas.so", "thing.py"]
    kept += ["ai_edge_litert/libLiteRt.so", "ai_edge_litert/interpreter.py", "ai_edge_litert-2.3.0.dist-info/METADATA"]
    left = ["numpy/_core/tests/test_x.py", "numpy/tests/x", "numpy/__init__.pyi", "ai_edge_litert/aot/x.py"]
    left += ["ai_edge_litert/libLiteRtWebGpuAccelerator.so", "thing-1.0.data/scripts/thing"]
    path = put_wheel(PI, dict.fromkeys(kept + left, "x"))
    archive = runtime_files.packages(wheels.wheels(PI, [WHEEL]))
    with zipfile.ZipFile(archive.path) as opened:
        names = [name for name in opened.namelist() if not name.startswith("tiny_thing-1.0.dist-info")]
    assert names == kept
    first = archive.path.read_bytes()
    archive.path.write_bytes(first[:100])  # damaged: made again, the same bytes
    assert runtime_files.packages(wheels.wheels(PI, [WHEEL])) == archive
    assert archive.path.read_bytes() == first
    assert path.is_file()
