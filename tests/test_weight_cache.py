"""Packed weights on disk: never those of another model, never damaged ones, never somebody else's."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tiny
from click.testing import CliRunner

from edge.cli import main
from edge.make.convert import convert, save
from edge.run.agent import loading, weight_cache
from edge.run.agent.checked_file import CheckedFile
from edge.run.agent.decoder_model import DecoderModel
from edge.run.agent.loading import Packed, packed_weights
from edge.run.agent.runtimes import Runtime, find_runtime
from edge.run.agent.weight_cache import NoCache
from edge.run.host import open_host
from firmware_tools import graph
from firmware_tools.link import Link

RUNTIME = find_runtime()
posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two of the same shapes, which LiteRT's own check of such a file does not tell apart."""
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        save(convert(tiny.checkpoint(seed), "int8"), folder / f"{seed}.tflite")
    return [folder / "0.tflite", folder / "1.tflite"]


def start(model: Path, folder: Path) -> tuple[Packed, np.ndarray]:
    """What a start finds or makes, and the logits that come of it."""
    packed = packed_weights(model, folder, RUNTIME, CheckedFile(model, graph.read(model).file_sha256))
    return packed, logits(model, packed)


def logits(model: Path, packed: Packed) -> np.ndarray:
    decoder = DecoderModel(model, tiny.SHAPE.kv_heads, 1, RUNTIME, weight_cache=packed.path)
    decoder.decode(7, 0)
    return decoder.logits.copy()


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_the_second_start_finds_what_the_first_packed(models: list[Path], tmp_path: Path) -> None:
    folder, truth = tmp_path / "a" / "cache", logits(models[0], Packed())
    for state in ("cold", "warm", "warm"):
        packed, found = start(models[0], folder)
        assert (packed.state, packed.why) == (state, "")
        np.testing.assert_array_equal(found, truth)
        assert files(folder) == [Path(packed.path)], "and nothing is left half written"
    if sys.platform != "win32":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(Path(packed.path).stat().st_mode) == 0o600


def test_models_of_the_same_shapes_have_files_of_their_own(models: list[Path], tmp_path: Path) -> None:
    truth = [logits(model, Packed()) for model in models]
    assert not np.array_equal(*truth)
    for state in ("cold", "warm"):
        for model, expected in zip(models, truth, strict=True):
            packed, found = start(model, tmp_path / "cache")
            assert packed.state == state
            np.testing.assert_array_equal(found, expected)


def test_the_trap_is_real(models: list[Path], tmp_path: Path) -> None:
    """LiteRT takes a file of another model and computes with its matrices: why names and checks are ours."""
    other = start(models[1], tmp_path / "cache")[0]
    assert not np.array_equal(logits(models[0], other), logits(models[0], Packed()))


def _flip(path: Path, other: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _under_this_name(path: Path, other: Path) -> None:
    shutil.copy(other, path)


def _under_this_key(path: Path, other: Path) -> None:
    path.unlink()
    shutil.copy(other, path.with_name(path.name[:33] + other.name[33:]))


def _link(path: Path, other: Path) -> None:
    aside = path.parent.parent / "aside"
    path.rename(aside)
    path.symlink_to(aside)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "flipped byte": _flip,
    "truncated": lambda path, other: os.truncate(path, path.stat().st_size - 1),
    "empty": lambda path, other: path.write_bytes(b""),
    "longer": lambda path, other: path.write_bytes(path.read_bytes() + b"\0"),
    "another model's content": _under_this_name,
    "another model's file under this key": _under_this_key,
    "a link": _link,
}


@posix
@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_in_doubt_is_made_anew(models: list[Path], tmp_path: Path, damage: str) -> None:
    folder, truth = tmp_path / "cache", logits(models[0], Packed())
    kept, other = (Path(start(model, folder)[0].path) for model in models)
    DAMAGES[damage](kept, other)
    for state in ("cold", "warm"):
        packed, found = start(models[0], folder)
        assert packed.state == state
        np.testing.assert_array_equal(found, truth)
    assert len(files(folder)) == 2


def test_a_model_that_changes_while_it_is_packed_is_not_kept(models: list[Path], tmp_path: Path) -> None:
    model, folder = tmp_path / "model.tflite", tmp_path / "cache"
    shutil.copy(models[0], model)
    checked = CheckedFile(model, graph.read(model).file_sha256)
    checked.expect()
    shutil.copy(models[1], tmp_path / "new")
    os.replace(tmp_path / "new", model)
    with pytest.raises(ValueError, match="not the one the host has read"):
        packed_weights(model, folder, RUNTIME, checked)
    assert files(folder) == []


def test_a_name_depends_on_model_runtime_and_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {weight_cache.key("0" * 64, "a"), weight_cache.key("1" * 64, "a"), weight_cache.key("0" * 64, "b")}
    monkeypatch.setattr(weight_cache, "_cpu", lambda: ["Features: fp asimd"])
    keys.add(weight_cache.key("0" * 64, "a"))
    monkeypatch.setattr(weight_cache.platform, "machine", lambda: "riscv64")
    keys.add(weight_cache.key("0" * 64, "a"))
    assert len(keys) == 5


# ------------------------------------------------------------------------------------------- where nothing can be kept


def none_because(models: list[Path], folder: Path) -> str:
    """Why a start keeps nothing; it answers all the same."""
    packed, found = start(models[0], folder)
    assert (packed.state, packed.path) == ("none", "")
    np.testing.assert_array_equal(found, logits(models[0], Packed()))
    return packed.why


def test_a_folder_that_cannot_be(models: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file" / "cache") in none_because(models, tmp_path / "file" / "cache")


@posix
def test_a_folder_that_is_a_link(models: list[Path], tmp_path: Path) -> None:
    (tmp_path / "aside").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "aside")
    assert "not a folder of its own" in none_because(models, tmp_path / "link")
    assert files(tmp_path / "aside") == []


@posix
def test_a_folder_of_somebody_else(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "theirs").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert "belongs to another user" in none_because(models, tmp_path / "theirs")


@posix
def test_a_folder_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o777)
    (tmp_path / "open").chmod(0o777)
    assert stat.S_IMODE(weight_cache.private(tmp_path / "open").stat().st_mode) == 0o700


def test_a_disk_without_room(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        weight_cache.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1 << 40, 0, 50 << 20)
    )
    assert "has 50 MiB left, 64 are needed" in none_because(models, tmp_path / "cache")


def test_a_read_only_folder(models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere, so it is LiteRT that cannot open the file, and goes on without."""
    monkeypatch.setattr(weight_cache, "temporary", lambda folder, *rest: folder / "missing" / "x.part")
    assert "wrote no packed weights" in none_because(models, tmp_path / "cache")
    assert files(tmp_path / "cache") == []


# ------------------------------------------------------------------------------------------------------------- room


def test_the_files_not_used_for_longest_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_cache, "LIMIT_BYTES", 250)
    kept = []
    for number in range(4):
        part = tmp_path / f"{number}.part"
        part.write_bytes(bytes(100))
        kept.append(weight_cache.keep(part, f"{number}" * 32))
        os.utime(kept[-1], (number, number))
    assert [path.exists() for path in kept] == [False, False, True, True]
    assert weight_cache.find(tmp_path, "2" * 32) == kept[2], "which is a use"
    (tmp_path / "5.part").write_bytes(bytes(100))
    weight_cache.keep(tmp_path / "5.part", "5" * 32)
    assert [path.exists() for path in kept] == [False, False, True, False]


def test_what_a_process_left_half_written_is_removed(tmp_path: Path) -> None:
    old, new = tmp_path / "old.part", tmp_path / "new.part"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    weight_cache.temporary(tmp_path, "0" * 32, 1)
    assert files(tmp_path) == [new]


def test_keeping_fails_in_words(tmp_path: Path) -> None:
    with pytest.raises(NoCache, match=str(tmp_path)):
        weight_cache.keep(tmp_path / "missing.part", "0" * 32)


# ------------------------------------------------------------------------------------------------------- the agent


def asked(link: Link) -> tuple[str, bytes]:
    with link:
        state = link.hello().raw["weight_cache"]
        link.prefill([1, 2, 3])
        return state, link.logits().tobytes()


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a size whose packed weights are kept."""
    model = tmp_path_factory.mktemp("large") / "large.tflite"
    size = {"dim": 384, "hidden_dim": 1500, "layers": 2, "context": 64}
    save(convert(tiny.checkpoint(**size), "float32"), model)
    assert model.stat().st_size > loading.SMALL_BYTES
    return model


def test_two_agents_at_once(large: Path, tmp_path: Path) -> None:
    """Both answer alike, and a third finds a whole file."""
    folder = tmp_path / "cache"
    links = [open_host(large, cache=folder) for _ in range(2)]
    answers = [asked(link) for link in links]
    answers.append(asked(open_host(large, cache=folder)))
    assert {logits for _, logits in answers} == {answers[0][1]}
    assert answers[2][0] == "warm" and "cold" in {state for state, _ in answers[:2]}
    assert all(weight_cache.NAME.fullmatch(path.name) for path in files(folder))


@posix
def test_a_run_says_that_nothing_is_kept(large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    done = CliRunner().invoke(main, ["run", str(large), "a", "--tokens", "2"])
    assert (
        done.exit_code == 0
        and done.stderr == f"note: packed weights are not kept: {tmp_path}/file/edge: Not a directory\n"
    )


def test_where_the_platform_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert weight_cache.host_folder() == Path.home() / ".cache" / "edge"
    monkeypatch.setenv("XDG_CACHE_HOME", str(Path.cwd()))
    assert weight_cache.host_folder() == Path.cwd() / "edge"
    monkeypatch.setattr(weight_cache.sys, "platform", "darwin")
    assert weight_cache.host_folder() == Path.home() / "Library" / "Caches" / "edge"


def test_another_runtime_packs_anew(models: list[Path], tmp_path: Path) -> None:
    start(models[0], tmp_path / "cache")
    checked = CheckedFile(models[0], graph.read(models[0]).file_sha256)
    newer = Runtime(RUNTIME.package, RUNTIME.version + ".1")
    assert packed_weights(models[0], tmp_path / "cache", newer, checked).state == "cold"
