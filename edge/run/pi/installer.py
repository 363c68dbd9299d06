"""Puts what the host sends where it belongs on a Raspberry Pi, and takes it away again; runs there, loaded by `probe`.

A request is a message of `probe` with its name in `do`; bytes that belong to it follow, as many as its `bytes` says.
Each is answered by a message: `{"ok": …}`, or `{"failed": reason, "why": kind}`. Only the standard library and
`places`. What the host says never becomes a path: models, runtimes and what is sent are named by their SHA-256.

Nothing counts before it is whole. What comes lies in a .part file, whose beginning the host compares by its hash
before it goes on there; then the whole is checked and renamed. A runtime is unpacked and started once beside the one in
use.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from edge.run.pi import places, probe
from edge.run.pi.arriving import Arriving, Failure, sha256_of, sync_folder, unpack

MOST_CHUNK_BYTES = 1 << 22
CHECK_S = 300
PATIENCE_S = 600  # for a host's next request; sshd itself may notice after two hours that the other side is gone
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PACKAGES_ID = "packages.sha256"  # of each runtime: what its packages were made of
LOCK = "lock"


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answers requests until they end. A host that falls silent has vanished: SIGALRM then ends this process."""
    installer = Installer()
    while True:
        signal.alarm(installer.patience_s)
        if (request := probe.receive(requests)) is None:
            return
        size = int(request.get("bytes", 0))
        if not 0 <= size <= MOST_CHUNK_BYTES:
            raise ValueError(f"a request has {size} bytes")
        data = requests.read(size)
        if len(data) < size:
            return
        signal.alarm(0)
        try:
            answer = {"ok": installer.carry_out(request, data)}
        except Failure as failure:
            answer = {"failed": failure.reason, "why": failure.why}
        except OSError as error:
            answer = {"failed": _reason(error), "why": "disk_full" if error.errno in FULL else "os"}
        probe.send(answers, answer)


def _reason(error: OSError) -> str:
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)


class Installer:
    """The state of one visit: the lock, and the file that is coming."""

    def __init__(self) -> None:
        self.home = places.home()
        self.patience_s = PATIENCE_S
        self._lock: int | None = None
        self._arriving: Arriving | None = None

    def carry_out(self, request: dict[str, Any], data: bytes) -> Any:
        name = str(request["do"])
        if name == "state":
            return self.state()
        if name == "lock":
            return self.lock(request)
        if name == "check":
            return self.check(request)
        if self._lock is None:
            raise Failure("the lock is not taken")
        if name == "chunk":
            return self.chunk(data)
        actions = {
            "look": self.look,
            "begin": self.begin,
            "finish": self.finish,
            "install": self.install,
            "forget": self.forget,
            "free": self.free,
            "sweep": self.sweep,
            "remove_model": self.remove_model,
            "remove_all": self.remove_all,
        }
        return actions[name](request)

    def state(self) -> dict[str, Any]:
        """What is here; looks only."""
        runtimes = {}
        for folder in _entries(self.home / places.RUNTIME):
            if places.DIGEST.fullmatch(folder.name) and folder.is_dir():
                runtimes[folder.name] = _text(folder / PACKAGES_ID)
        models = {
            path.stem: path.stat().st_size
            for path in _entries(self.home / places.MODELS)
            if path.suffix == ".tflite" and places.DIGEST.fullmatch(path.stem)
        }
        folders = (self.home / places.RUNTIME, self.home / places.MODELS)
        parts = sum(path.suffix == ".part" for folder in folders for path in _entries(folder))
        current = _text(self.home / places.RUNTIME / places.CURRENT)
        current = current if current in runtimes else ""
        code = places.code_digest(places.code(self.home / places.RUNTIME / current)) if current else ""
        return {"current": current, "code": code, "runtimes": runtimes, "models": models, "parts": parts}

    def free(self, request: dict[str, Any]) -> int:
        """Bytes that are left for us on the disk."""
        found = os.statvfs(self.home)
        return found.f_bavail * found.f_frsize

    def lock(self, request: dict[str, Any]) -> bool:
        """Keeps others from deploying to the same home at the same time, until this process ends."""
        self.patience_s = max(1, min(int(request.get("patience_s", PATIENCE_S)), PATIENCE_S))
        self.home.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Failure("another deploy to this computer is under way", "busy") from None
        self._lock = descriptor
        return True

    def look(self, request: dict[str, Any]) -> dict[str, Any]:
        """How much of a file is here, and the hash of that much: of the whole where it has its name."""
        name = _digest(request)
        whole, part = self._whole(request), self._part(request)
        if whole.is_file():
            if sha256_of(whole) == name:
                return {"whole": True, "bytes": whole.stat().st_size, "sha256": name}
            whole.unlink()  # damaged, or a file of another kind with that name
        if part.is_file():
            return {"whole": False, "bytes": part.stat().st_size, "sha256": sha256_of(part)}
        return {"whole": False, "bytes": 0, "sha256": hashlib.sha256().hexdigest()}

    def begin(self, request: dict[str, Any]) -> bool:
        """Opens a .part file at an offset, which is at most what it has."""
        offset, total = int(request["offset"]), int(request["total"])
        part = self._part(request)
        part.parent.mkdir(parents=True, exist_ok=True)
        self._arriving = Arriving(part, self._whole(request), _digest(request), offset, total)
        return True

    def chunk(self, data: bytes) -> int:
        """Appends to the file that is coming; what was begun and then failed is forgotten, and its part removed."""
        if self._arriving is None:
            raise Failure("no file is coming")
        try:
            return self._arriving.write(data)
        except OSError:
            self._arriving.drop()
            self._arriving = None
            raise

    def finish(self, request: dict[str, Any]) -> bool:
        if self._arriving is None:
            raise Failure("no file is coming")
        arriving, self._arriving = self._arriving, None
        arriving.finish()
        return True

    def install(self, request: dict[str, Any]) -> dict[str, Any]:
        """Unpacks a runtime beside the others, starts it once, and only then makes it the current one."""
        digest = _digest(request)
        folder = self.home / places.RUNTIME / digest
        new = folder.with_name(f"{digest}.new")
        _remove(new)
        try:
            new.mkdir(parents=True)
            unpack(self._sent(request["files"]), new)
            self._fill_packages(new, request)
            found = self._check(new)
            os.sync()
            _remove(folder)
            new.rename(folder)
            self._write(self.home / places.AGENT, str(request["agent"]), 0o755)
            self._write(self.home / places.RUNTIME / places.CURRENT, digest + "\n", 0o644)
        except (Failure, OSError):
            _remove(new)
            raise
        finally:
            for name in (request["files"], request["packages"]):
                self._sent(name).unlink(missing_ok=True)
        self.sweep(request)
        return found

    def _fill_packages(self, new: Path, request: dict[str, Any]) -> None:
        """From what was sent, or else from a runtime that has the very same, file by file without copying."""
        made_of, sent = str(request["packages_id"]), self._sent(request["packages"])
        if sent.is_file():
            unpack(sent, new / places.PACKAGES)
        elif (owner := self._owner(made_of)) is not None:
            shutil.copytree(owner / places.PACKAGES, new / places.PACKAGES, copy_function=_link)
        else:
            raise Failure("the packages have not been sent")
        (new / PACKAGES_ID).write_text(made_of + "\n", encoding="ascii")

    def _owner(self, made_of: str) -> Path | None:
        for folder in _entries(self.home / places.RUNTIME):
            if places.DIGEST.fullmatch(folder.name) and _text(folder / PACKAGES_ID) == made_of:
                return folder
        return None

    def check(self, request: dict[str, Any]) -> dict[str, Any]:
        """Starts a runtime once, which changes nothing."""
        return self._check(self.home / places.RUNTIME / _digest(request))

    def forget(self, request: dict[str, Any]) -> bool:
        """Removes a runtime that is damaged."""
        return _remove(self.home / places.RUNTIME / _digest(request))

    @staticmethod
    def _check(folder: Path) -> dict[str, Any]:
        """What a runtime says of itself, run in a child: libraries for another processor end their process."""
        path = os.pathsep.join([str(folder), str(folder / places.PACKAGES)])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
        try:
            done = subprocess.run(
                [sys.executable, "-m", "edge.run.pi.self_check"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=environment,
                cwd="/",
                timeout=CHECK_S,
            )
        except subprocess.TimeoutExpired:
            raise Failure(f"the runtime did not start within {CHECK_S} s", "check") from None
        if done.returncode < 0:
            name = signal.strsignal(-done.returncode) or f"signal {-done.returncode}"
            raise Failure(f"the runtime was ended by: {name}", "check")
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it does not say why"]
            raise Failure(f"the runtime does not start: {lines[-1][:300]}", "check")
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise Failure(f"the runtime says what it should not: {done.stdout[-300:]!r}", "check") from None
        return found

    def sweep(self, request: dict[str, Any]) -> list[str]:
        """Removes what is neither the current runtime nor a model: older runtimes, and runtimes that are not whole."""
        keep = {places.CURRENT, _text(self.home / places.RUNTIME / places.CURRENT)}
        gone = [path for path in _entries(self.home / places.RUNTIME) if path.name not in keep]
        for path in gone:
            _remove(path)
        return [path.name for path in gone]

    def remove_model(self, request: dict[str, Any]) -> bool:
        """Whether it was here; what was begun of it and all packed weights, which can be made anew, go, too."""
        model = self._whole(request)
        found = model.is_file()
        for path in (model, self._part(request), self.home / places.CACHE):
            _remove(path)
        return found

    def remove_all(self, request: dict[str, Any]) -> list[str]:
        """Everything of ours, in names below home; folders that have something else in them stay."""
        ours = (places.RUNTIME, places.MODELS, places.CACHE, places.AGENT, LOCK)
        gone = [name for name in ours if _remove(self.home / name)]
        with contextlib.suppress(OSError):
            self.home.rmdir()
        return [name for name in gone if name != LOCK]

    def _whole(self, request: dict[str, Any]) -> Path:
        name = _digest(request)
        return places.model_file(name) if request["kind"] == "model" else self._sent(name)

    def _part(self, request: dict[str, Any]) -> Path:
        return self._whole(request).with_suffix(".part")

    def _sent(self, name: Any) -> Path:
        """A ZIP file on its way into a runtime; it must be a hash, so that no path is made of foreign text."""
        return self.home / places.RUNTIME / f"{_digest({'sha256': name})}.zip"

    def _write(self, path: Path, text: str, mode: int) -> None:
        new = path.with_name(f".{path.name}.new")
        try:
            with new.open("w", encoding="utf-8") as file:
                file.write(text)
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
        sync_folder(path.parent)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system that has no such links
        shutil.copy2(source, target)


def _digest(request: dict[str, Any]) -> str:
    name = str(request["sha256"])
    if not places.DIGEST.fullmatch(name):
        raise Failure("what is sent is named by its SHA-256")
    return name


def _text(path: Path) -> str:
    """A small file of ours, or nothing."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="ascii")[:200].strip()
    return ""


def _entries(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        yield from sorted(folder.iterdir())


def _remove(path: Path) -> bool:
    """Removes a file or a folder, never what a link leads to; whether it was there."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        return False
    return True
