"""Our training output: what is saved is read back, and a wrong, truncated or oversized file is one BadFile."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.make import checkpoints
from edge.make.checkpoints import Architecture, Checkpoint, expected_shapes, npz
from firmware_tools.errors import BadFile, UserError

SHAPE = Architecture(vocab_size=12, dim=8, hidden_dim=12, layers=2, heads=4, kv_heads=2, context=16)
CARD = {"name": "tiny", "licence": "Apache-2.0", "source": "a test", "bos_id": 1, "stop_ids": [2]}
CARD |= {"template": {"before": "", "after": "\n"}}


def checkpoint(shape: Architecture = SHAPE) -> Checkpoint:
    random = np.random.default_rng(0)
    weights = {
        name: random.normal(size=size).astype(np.float32) for name, size in expected_shapes(shape, tied=True).items()
    }
    return Checkpoint(shape, weights, b'{"version":"1.0"}', CARD)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.npz"
    npz.save(checkpoint(), path)
    return path


def rewrite(path: Path, members: dict[str, np.ndarray], drop: tuple[str, ...] = ()) -> Path:
    """The archive with some members replaced, added or dropped."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name not in drop}
    np.savez(path, **(arrays | members))
    return path


def test_a_saved_checkpoint_is_read_back_whole(saved: Path) -> None:
    wanted, found = checkpoint(), checkpoints.load(saved)
    assert found.architecture == wanted.architecture
    assert found.card == wanted.card
    assert found.tokenizer == wanted.tokenizer
    assert found.weights.keys() == wanted.weights.keys()
    assert all(np.array_equal(found.weights[name], wanted.weights[name]) for name in wanted.weights)


def test_the_same_checkpoint_gives_the_same_bytes(saved: Path, tmp_path: Path) -> None:
    npz.save(checkpoint(), tmp_path / "again.npz")
    assert (tmp_path / "again.npz").read_bytes() == saved.read_bytes()


def test_an_untied_head_is_kept(tmp_path: Path) -> None:
    tied = checkpoint()
    head = np.full((SHAPE.vocab_size, SHAPE.dim), 0.5, np.float32)
    npz.save(Checkpoint(SHAPE, {**tied.weights, "head": head}, tied.tokenizer, CARD), tmp_path / "untied.npz")
    assert np.array_equal(npz.load(tmp_path / "untied.npz").weights["head"], head)


def test_another_tokenizer_replaces_the_one_inside(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_bytes(b"{}")
    assert npz.load(saved, tmp_path / "other.json").tokenizer == b"{}"


@pytest.mark.parametrize("name", ["config", "card", "tokenizer", "embedding", "1.down"])
def test_a_missing_member_is_named(saved: Path, name: str) -> None:
    with pytest.raises(BadFile, match=name):
        npz.load(rewrite(saved, {}, drop=(name,)))


@pytest.mark.parametrize(
    "members",
    [
        {"extra": np.zeros(3, np.float32)},
        {"final_norm": np.zeros(9, np.float32)},
        {"final_norm": np.zeros(8, np.float64)},
        {"final_norm": np.array([np.nan] * 8, np.float32)},
        {"0.q": np.zeros((8, 8, 1), np.float32)},
        {"0.q": np.asfortranarray(np.zeros((8, 9), np.float32))},
        {"config": np.frombuffer(b"[]", np.uint8)},
        {"config": np.frombuffer(b'{"vocab_size": 1e99}', np.uint8)},
        {"config": np.frombuffer(b"\xff\xfe", np.uint8)},
        {"config": np.frombuffer(b"[" * 100_000, np.uint8)},
        {"card": np.frombuffer(b"3", np.uint8)},
        {"card": np.zeros(4, np.float32)},
    ],
)
def test_a_wrong_member_is_one_error(saved: Path, members: dict[str, np.ndarray]) -> None:
    with pytest.raises(BadFile, match=r"tiny\.npz"):
        npz.load(rewrite(saved, members))


@pytest.mark.parametrize("field", ["vocab_size", "heads", "kv_heads", "context", "rope_theta"])
@pytest.mark.parametrize("value", ["0", "-1", "true", '"8"', "1e400", "9999999999999"])
def test_a_wrong_config_is_one_error(saved: Path, field: str, value: str) -> None:
    with np.load(saved) as file:
        config = json.loads(file["config"].tobytes())
    del config[field]
    text = json.dumps(config)[:-1] + f', "{field}": {value}}}'
    with pytest.raises(BadFile):
        npz.load(rewrite(saved, {"config": np.frombuffer(text.encode(), np.uint8)}))


def test_pickled_objects_are_refused(saved: Path) -> None:
    with pytest.raises(BadFile):
        npz.load(rewrite(saved, {"final_norm": np.array([print] * 8, dtype=object)}))


def test_a_member_that_promises_more_than_it_has_is_refused(saved: Path) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 40,)})
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("huge.npy", header.getvalue())
    with pytest.raises(BadFile):
        npz.load(saved)


def test_an_archive_that_unpacks_too_large_is_refused_unread(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "LARGEST_BYTES", 1000)
    with pytest.raises(BadFile, match="unpacks to more than 1000 bytes"):
        npz.load(saved)


def test_a_member_twice_is_refused(saved: Path) -> None:
    with zipfile.ZipFile(saved, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("final_norm.npy", b"")
    with pytest.raises(BadFile, match="twice"):
        npz.load(saved)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_damaged_file_is_one_error_or_sound(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("damaged") / "tiny.npz"
    npz.save(checkpoint(), path)
    whole = path.read_bytes()
    kept = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:kept])
    with pytest.raises(BadFile):
        npz.load(path)
    flipped = bytearray(whole)
    flipped[kept] ^= data.draw(st.integers(1, 255))
    path.write_bytes(flipped)
    try:
        found = npz.load(path)
    except BadFile:
        return
    assert all(np.array_equal(found.weights[name], weight) for name, weight in checkpoint().weights.items())


def test_a_folder_or_text_named_npz_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "text.npz").write_text("hello")
    for name in ("folder.npz", "text.npz", "none.npz"):
        with pytest.raises(BadFile):
            npz.load(tmp_path / name)


def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot write"):
        npz.save(checkpoint(), tmp_path / "no" / "such" / "tiny.npz")
