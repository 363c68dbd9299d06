"""`hf:org/name` by the real client: huggingface_hub in a process of its own, and a server that speaks its protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import tiny
from test_safetensors import save

from edge.make import checkpoints
from firmware_tools.errors import MissingTool, UserError

pytest.importorskip("huggingface_hub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GATED, MISSING, NO_REVISION = (403, "GatedRepo"), (404, "RepoNotFound"), (404, "RevisionNotFound")
# reads sources one after the other, and prints of each the card and the sum of a weight, or the error
SCRIPT = """
import json, sys
from pathlib import Path
from edge.make import checkpoints
from firmware_tools.errors import UserError
for source in sys.argv[1:]:
    try:
        read = checkpoints.load(Path(source))
        found = {"first": float(read.weights["embedding"][0, 0]), "plain": checkpoints.is_plain(Path(source))}
        print(json.dumps({**read.card, **found}))
    except UserError as error:
        print(json.dumps({"error": error.message, "hint": error.hint}))
"""


class Hub(BaseHTTPRequestHandler):
    """acme/tiny, with a branch main and a tag v1 at one commit; acme/old with pickles alone; acme/closed is gated."""

    folder: Path
    asked: list[str] = []
    cut = False  # hang up within a file

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(path)
        if path.startswith("/api/models/acme/closed"):
            self.refuse(*GATED)
        elif not f"{path.removeprefix('/api/models')}/".startswith(("/acme/tiny/", "/acme/old/")):
            self.refuse(*MISSING)
        elif "/tree/" in path:
            hidden = "safetensors" if "/acme/old/" in path else "nothing"
            self.answer([self.entry(file) for file in sorted(self.folder.iterdir()) if hidden not in file.name])
        elif path.startswith("/api/"):
            revision = path.partition("/revision/")[2] or "main"
            known = revision in ("main", "v1", COMMIT)
            self.answer({"id": "acme/tiny", "sha": COMMIT, "siblings": []}) if known else self.refuse(*NO_REVISION)
        else:
            self.send_file(self.folder / path.rpartition("/")[2])

    do_HEAD = do_GET

    def entry(self, file: Path) -> dict[str, Any]:
        oid = hashlib.sha1(file.read_bytes()).hexdigest()
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": oid}

    def send_file(self, file: Path) -> None:
        data = file.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.finish_with(data)

    def answer(self, value: Any) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.finish_with(json.dumps(value).encode())

    def refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.finish_with(b"{}")

    def finish_with(self, data: bytes) -> None:
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if self.cut and not self.path.startswith("/api") else data)
            self.close_connection = self.cut

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadingHTTPServer]:
    folder = save(tmp_path_factory.mktemp("hub") / "tiny", tiny.checkpoint(), shards=2, tie_word_embeddings=True)
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02never asked for")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n")
    Hub.folder, Hub.asked = folder, []
    it = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=it.serve_forever, daemon=True).start()
    yield it
    it.shutdown()
    it.server_close()


def read(home: Path, port: int, *sources: str, **settings: str) -> list[dict[str, Any]]:
    environment = {**os.environ, "HF_HOME": str(home), "HF_ENDPOINT": f"http://127.0.0.1:{port}", **settings}
    environment |= {"HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", SCRIPT, *sources], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_model_of_the_hub_and_the_cache_when_it_is_away(server: ThreadingHTTPServer, tmp_path: Path) -> None:
    port = server.server_address[1]
    sources = ["hf:acme/tiny", "hf:acme/tiny@v1", f"hf:acme/tiny@{COMMIT}"]
    wrong = ["hf:acme/tiny@v2", "hf:acme/none", "hf:acme/closed", "hf:acme/old"]
    *found, revision, missing, closed, old = read(tmp_path, port, *sources, *wrong)
    for card in found:
        assert card["source"] == f"hf:acme/tiny@{COMMIT}"
        assert (card["name"], card["licence"], card["stop_ids"], card["plain"]) == ("tiny", "mit", [2], False)
        assert card["first"] == tiny.checkpoint().weights["embedding"][0, 0]
    assert revision["error"] == "hf:acme/tiny@v2 is not there: acme/tiny has no such revision"
    assert missing["error"] == "hf:acme/none is not there, or is private"
    assert closed["error"] == "hf:acme/closed is only for those who accepted its terms"
    assert "hf auth login" in closed["hint"]
    assert old["error"] == "hf:acme/old has no safetensors"
    assert "M.from_pretrained('acme/old').save_pretrained('NEW', safe_serialization=True)" in old["hint"]
    assert any(name.endswith("tokenizer.json") for name in Hub.asked)
    assert not any(name.endswith(".bin") for name in Hub.asked)
    asked = len(Hub.asked)
    for offline in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:1"}):
        again, strange = read(tmp_path, port, "hf:acme/tiny", "hf:acme/other", **offline)
        assert again == found[0]
        assert "hf:acme/other is not in the cache, and the Hub does not answer" in strange["error"]
    assert len(Hub.asked) == asked


def test_a_download_that_breaks_off(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "cut", True)
    (found,) = read(tmp_path, server.server_address[1], "hf:acme/tiny")
    assert "cannot download hf:acme/tiny" in found["error"]


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingTool, match="hf: needs the package huggingface_hub") as caught:
        checkpoints.load(Path("hf:acme/tiny"))
    assert caught.value.hint == "pip install 'edge-tinyml[hub]'"


@pytest.mark.parametrize("name", ["hf:", "hf:a/b/c", "hf:../b", "hf:a/..", "hf:a b/c", "hf:a/b@../c", "hf:a/b@x y"])
def test_names_that_no_model_has(name: str) -> None:
    with pytest.raises(UserError, match="is not the name of a model on the Hub"):
        checkpoints.load(Path(name))
