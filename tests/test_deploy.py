"""Deploying to a computer: real files by the real installer, in a child process that has a home of its own."""

from __future__ import annotations

import ast
import hashlib
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import plain_models
import pytest
import tiny
from as_pi import SOURCE, Here, put_wheel

from edge import zoo
from edge.make import convert
from edge.run.finding import Finding
from edge.run.pi import deploy, doctor, places, probe, runtime_files, visit, wheels
from edge.run.pi.arriving import Failure, unpack
from edge.run.pi.computer import obstacles, understand
from edge.run.pi.installer import Installer
from edge.run.pi.visit import Failed, Parcel, Visit
from firmware_tools import graph
from firmware_tools.errors import BadFile, DoesNotFit, LinkError, UserError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """A computer to which nothing has been deployed; one tiny wheel is in this side's cache."""
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(wheels, "requirements", lambda platform: ["tiny-thing==1.0"])
    monkeypatch.setattr(deploy, "SPARE_DISK_BYTES", 0)
    computer = Here(tmp_path / "home")
    put_wheel(computer.platform(), {"tiny_thing.py": "x = 1\n", "tiny_thing/tests/test.pyi": "left out"})
    return computer


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.tflite"
    path.write_bytes(convert.convert(tiny.checkpoint()))
    return path


@pytest.fixture
def old_model(tmp_path: Path) -> Path:
    path = tmp_path / "old.tflite"
    path.write_bytes(convert.convert(tiny.checkpoint(), runtime="2.14"))
    return path


def name_of(model: Path) -> str:
    return hashlib.sha256(model.read_bytes()).hexdigest()


def test_a_deploy_brings_runtime_and_model_and_a_second_one_moves_nothing(here: Here, model: Path) -> None:
    done = here.deploy(model)
    assert done.runtime_sent_bytes > 0 and done.model_sent_bytes == model.stat().st_size
    runtime = here.base / "runtime" / done.runtime_sha256
    assert (here.base / "runtime" / "current").read_text().strip() == done.runtime_sha256
    assert (runtime / "packages" / "tiny_thing.py").read_text() == "x = 1\n"
    assert not list(runtime.rglob("*.pyi"))
    assert (here.base / "models" / f"{name_of(model)}.tflite").read_bytes() == model.read_bytes()
    assert os.access(here.base / "edge-agent", os.X_OK)
    assert done.runtime.startswith(("ai_edge_litert", "tflite_runtime")) and done.numpy
    before = here.files()
    again = here.deploy(model)
    assert (again.runtime_sent_bytes, again.model_sent_bytes) == (0, 0)
    assert again.runtime == done.runtime
    assert here.files() == before
    assert "nothing to do" in deploy.deployed_text(again)
    assert not [name for name in before if name.endswith((".part", ".zip", ".new"))]


def test_a_model_of_any_kind_is_brought(here: Here, tmp_path: Path) -> None:
    path = tmp_path / "signatures.tflite"
    path.write_bytes(plain_models.classifier(signatures=("day", "night")))
    assert here.deploy(path).model_sent_bytes == path.stat().st_size


def test_a_runtime_has_all_that_it_imports(here: Here, model: Path) -> None:
    """Its package `edge` is the one that was sent, so what was forgotten would be missed by the self-check."""
    runtime = here.base / "runtime" / here.deploy(model).runtime_sha256
    sent = {path.relative_to(runtime).as_posix() for path in runtime.rglob("*.py") if "packages" not in path.parts}
    assert sent == set(runtime_files.own_modules())
    allowed = {"edge", "firmware_tools", "numpy", "ai_edge_litert", "tflite_runtime"}
    for path in runtime_files.own_modules().values():
        found = {name.partition(".")[0] for name in runtime_files.imports(path)}
        foreign = found - allowed - set(sys.stdlib_module_names)
        assert not foreign, f"{path} imports {foreign}, which is not on a Raspberry Pi"


def test_a_newer_edge_sends_its_own_files_and_keeps_the_packages(
    here: Here, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = here.deploy(model)
    packages = here.base / "runtime" / first.runtime_sha256 / "packages"
    inode = (packages / "tiny_thing.py").stat().st_ino
    monkeypatch.setattr(runtime_files, "AGENT_SCRIPT", runtime_files.AGENT_SCRIPT + "# newer\n")
    second = here.deploy(model)
    assert second.runtime_sha256 != first.runtime_sha256
    assert 0 < second.runtime_sent_bytes < first.runtime_sent_bytes
    assert not packages.exists()
    now = here.base / "runtime" / second.runtime_sha256 / "packages" / "tiny_thing.py"
    assert now.stat().st_ino == inode
    assert "# newer" in (here.base / "edge-agent").read_text()


@pytest.mark.parametrize("kept", [1, 0.5, 0])
def test_a_broken_transfer_goes_on_where_it_stopped(here: Here, model: Path, kept: float) -> None:
    content = model.read_bytes()
    part = here.base / "models" / f"{name_of(model)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(content[: int(kept * len(content))])
    assert here.deploy(model).model_sent_bytes == len(content) - int(kept * len(content))
    assert (here.base / "models" / f"{name_of(model)}.tflite").read_bytes() == content
    assert not part.exists()


@pytest.mark.parametrize("strange", [b"something else", b"\0" * 1_000_000], ids=["other", "longer"])
def test_a_beginning_that_is_not_the_models_is_sent_anew(here: Here, model: Path, strange: bytes) -> None:
    part = here.base / "models" / f"{name_of(model)}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(strange)
    assert here.deploy(model).model_sent_bytes == model.stat().st_size
    assert (here.base / "models" / f"{name_of(model)}.tflite").read_bytes() == model.read_bytes()


def test_a_model_that_was_damaged_there_is_sent_again(here: Here, model: Path) -> None:
    here.deploy(model)
    there = here.base / "models" / f"{name_of(model)}.tflite"
    damaged = bytearray(model.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    there.write_bytes(damaged)
    assert here.deploy(model).model_sent_bytes == model.stat().st_size
    assert there.read_bytes() == model.read_bytes()


def test_a_runtime_that_was_damaged_there_is_made_anew(here: Here, model: Path) -> None:
    first = here.deploy(model)
    (here.base / "runtime" / first.runtime_sha256 / "edge" / "run" / "agent" / "__main__.py").unlink()
    second = here.deploy(model)
    assert second.runtime_sent_bytes == first.runtime_sent_bytes
    assert (here.base / "runtime" / second.runtime_sha256 / "edge" / "run" / "agent" / "__main__.py").is_file()


def test_the_doctor_starts_what_is_deployed(here: Here, model: Path) -> None:
    runtime = here.base / "runtime" / here.deploy(model).runtime_sha256
    before = here.files()

    def found() -> Finding:
        with here.visit() as there:
            return next(f for f in doctor.examine(there, "ssh:here") if f.what.startswith("runtime "))

    assert found().state == "ok" and "numpy" in found().what
    assert here.files() == before
    module = runtime / "edge" / "run" / "agent" / "session.py"
    text = module.read_text()
    module.write_text(text + "# another edge\n")
    assert found().state == "missing" and "by another version of edge" in found().what
    module.write_text("raise ImportError('it is damaged')\n")
    assert found().state == "missing" and "it is damaged" in found().what
    assert found().hint == "edge deploy MODEL --to ssh:here"


def test_a_line_that_is_cut_in_mid_transfer_leaves_a_part_to_go_on_with(
    here: Here, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visit, "CHUNK_BYTES", 4096)
    here.deploy(model)
    here.remove(None)
    process = here.start()

    def cut(what: str, done: int, total: int) -> None:
        if what == "model" and done > total / 3:
            process.kill()

    with pytest.raises(LinkError, match="ended with"), Visit(process, lambda code, said: LinkError("ended with")) as it:
        deploy.deploy(model, it, "ssh:here", cut)
    part = here.base / "models" / f"{name_of(model)}.part"
    arrived = part.stat().st_size
    assert model.stat().st_size > arrived > model.stat().st_size / 4
    assert not part.with_suffix(".tflite").exists()
    assert here.deploy(model).model_sent_bytes == model.stat().st_size - arrived


def test_a_full_disk_is_said_and_nothing_is_left_of_what_was_half_copied(here: Here) -> None:
    model = zoo.find("intent")
    here.most_file_bytes = model.stat().st_size - 1000  # room for the runtime, as small as it is here
    with pytest.raises(DoesNotFit, match="disk of ssh:here is full") as caught:
        here.deploy(model)
    assert "df -h" in caught.value.hint
    assert not list((here.base / "models").iterdir())
    here.most_file_bytes = 4096
    here.remove(None)
    with pytest.raises(DoesNotFit, match="is full"):
        here.deploy(model)
    assert not here.base.exists()


def test_what_has_no_room_is_refused_before_it_is_sent(
    here: Here, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "SPARE_DISK_BYTES", 1 << 60)
    with pytest.raises(DoesNotFit, match="the runtime takes .* to spare"):
        here.deploy(model)
    assert not here.base.exists()


def test_a_runtime_that_does_not_start_is_not_switched_to(here: Here, model: Path) -> None:
    first = here.deploy(model)
    before = here.files()
    for trouble, reason in (
        ("raise ImportError('libgomp.so.1 is missing')", "libgomp.so.1 is missing"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "Illegal instruction"),
        ("print('hello')\nraise SystemExit(0)", "hello"),
    ):
        put_wheel(here.platform(), {"numpy/__init__.py": trouble + "\n"})
        with pytest.raises(UserError, match=reason) as caught:
            here.deploy(model)
        assert "nothing was switched over" in caught.value.hint
        assert here.files() == before
    assert (here.base / "runtime" / "current").read_text().strip() == first.runtime_sha256


def test_a_32_bit_system_gets_only_files_that_its_runtime_computes(
    model: Path, old_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"system": "Linux", "machine": "aarch64", "bits": 32, "python": [3, 11, 2], "implementation": "CPython"}
    computer = understand({**told, "libc": "glibc 2.36", "home_writable": True, "numpy": "1.24.2"})
    assert not obstacles(computer) and computer.architecture == "armv7l"
    deploy.check_form(old_model, graph.read(old_model), computer)
    with pytest.raises(BadFile, match="not written for the runtime of 32-bit systems") as caught:
        deploy.check_form(model, graph.read(model), computer)
    assert "--runtime 2.14" in caught.value.hint


def test_two_deploys_at_once_are_one_too_many(here: Here, model: Path) -> None:
    with here.visit() as first:
        first.start_installer()
        first.ask("lock")
        with pytest.raises(LinkError, match="another deploy to this computer is under way"):
            here.deploy(model)
    here.deploy(model)


def test_a_host_that_vanishes_does_not_keep_the_lock(here: Here, model: Path) -> None:
    """Its end of the line stays open, as it does where a cable was pulled."""
    with here.visit() as silent:
        silent.start_installer()
        silent.ask("lock", patience_s=1)
        with pytest.raises(LinkError, match="ended with -14"):  # SIGALRM
            silent._receive()
        here.deploy(model)


def test_removing_takes_one_model_then_everything(here: Here, model: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(convert.convert(tiny.checkpoint(seed=9)))
    here.deploy(model)
    here.deploy(other)
    (here.base / "cache").mkdir()
    (here.base / "cache" / "x.packed").write_bytes(b"packed weights")
    assert here.remove(str(model)) == deploy.Removed("ssh:here", (name_of(model),), False)
    assert not (here.base / "cache").exists()
    assert [path.stem for path in (here.base / "models").iterdir()] == [name_of(other)]
    assert deploy.removed_text(here.remove(str(model))) == "ssh:here: that model was not there\n"
    with pytest.raises(UserError, match="no model whose hash begins with 00000000"):
        here.remove("00000000")
    assert here.remove(name_of(other)[:12]) == deploy.Removed("ssh:here", (name_of(other),), True)
    assert not here.base.exists()
    assert here.remove(None).everything and not here.base.exists()


def test_removing_spares_what_is_not_ours_and_never_follows_a_link(here: Here, model: Path, tmp_path: Path) -> None:
    here.deploy(model)
    (here.base / "notes.txt").write_text("mine")
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("mine, too")
    (here.base / "cache").symlink_to(precious)
    here.remove(None)
    assert [path.name for path in here.base.iterdir()] == ["notes.txt"]
    assert (precious / "file").read_text() == "mine, too"


def test_a_part_that_is_a_link_is_not_written_through(here: Here, model: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("")
    (here.base / "models").mkdir(parents=True)
    (here.base / "models" / f"{name_of(model)}.part").symlink_to(victim)
    with pytest.raises(UserError):
        here.deploy(model)
    assert victim.read_text() == ""


@pytest.mark.parametrize("name", ["../../x", "x" * 64, "A" * 64, "", "/etc/passwd", None])
def test_the_host_cannot_name_a_path(here: Here, name: str | None) -> None:
    with here.visit() as there:
        there.start_installer()
        there.ask("lock")
        for what in ("look", "remove_model", "forget", "check", "begin", "install"):
            with pytest.raises(Failed, match="named by its SHA-256"):
                there.ask(what, kind="model", sha256=name, offset=0, total=1)


def test_nothing_is_changed_without_the_lock(here: Here) -> None:
    with here.visit() as there:
        there.start_installer()
        with pytest.raises(Failed, match="the lock is not taken"):
            there.ask("remove_all")
        assert there.ask("state") == {"current": "", "code": "", "runtimes": {}, "models": {}, "parts": 0}
    assert not here.base.exists()


def test_what_arrives_must_be_what_was_announced(here: Here, model: Path) -> None:
    with here.visit() as there:
        there.start_installer()
        there.ask("lock")
        wrong = Parcel("model", "0" * 64, model.stat().st_size, model)
        with pytest.raises(Failed, match="not what was sent"):
            there.send(wrong, 0, "model", lambda what, done, total: None)
        with pytest.raises(Failed, match="more came than was announced"):
            there.send(Parcel("model", "0" * 64, 100, model), 0, "model", lambda what, done, total: None)
        with pytest.raises(Failed, match="more was to be kept"):
            there.ask("begin", kind="model", sha256="0" * 64, offset=5, total=10)
        assert there.ask("state")["parts"] == 1


@pytest.mark.parametrize("name", ["../outside.py", "/etc/outside.py", "a/../../outside.py", "a\\..\\outside.py"])
def test_an_archive_stays_in_its_folder(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("good.py", "")
        archive.writestr(zipfile.ZipInfo(name), "")
    with pytest.raises(Failure, match="does not lie in it"):
        unpack(tmp_path / "a.zip", tmp_path / "deep" / "er")
    assert not list(tmp_path.rglob("outside*"))


def test_an_archive_has_no_links(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(Failure, match="does not lie in it"):
        unpack(tmp_path / "a.zip", tmp_path / "there")


def test_a_wheel_that_is_no_archive_is_one_clear_error(here: Here, model: Path) -> None:
    path = put_wheel(here.platform(), {})
    path.write_bytes(b"not a ZIP")
    path.with_name(f"{path.name}.sha256").write_text(hashlib.sha256(b"not a ZIP").hexdigest())
    with pytest.raises(BadFile, match="cannot be read"):
        here.deploy(model)
    assert not here.base.exists()


def talk(script: str) -> Visit:
    """A Visit of something else than a probe."""
    process = subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return Visit(process, lambda code, stderr: LinkError(f"ended with {code}: {stderr.decode()}"))


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("echo hello; echo sorry >&2; exit 3", "ended with 3: sorry"),
        (r"printf '\0edge-probe-1\0\377\377\377\377'", "something else than an answer"),
        (r"printf '\0edge-probe-1\0\0\0\0\2[]'", "something else than an answer"),
        (r"printf '\0edge-probe-1\0\0\0\0\2{x'", "something else than an answer"),
        (r"printf '\0edge-probe-1\0\0\0\0\11{'", "ended with 0"),
        ("exec yes", "login scripts print without end"),
    ],
)
def test_what_is_no_probe_is_one_clear_error(script: str, message: str) -> None:
    with pytest.raises(LinkError, match=message):
        talk(script)


def test_what_a_login_script_prints_is_skipped(here: Here, tmp_path: Path) -> None:
    with talk(f'echo Welcome to the Pi; exec python3 -I -c "$(cat {probe.__file__})"') as there:
        assert there.found["system"] == "Linux"


def test_the_probe_is_understood_by_the_python_of_ten_years_ago() -> None:
    tree = ast.parse(SOURCE, feature_version=(3, 5))
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef, ast.Match)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, newer)]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            assert set(names) <= {"json", "os", "platform", "signal", "struct", "subprocess", "sys", "types", "typing"}


def test_the_installer_lives_where_places_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Installer().home == places.home() == tmp_path / ".local" / "share" / "edge"
