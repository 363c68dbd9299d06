"""A model and all it needs to run, brought to a Raspberry Pi over one ssh connection; and taken away again.

What it is decides what is sent: `computer` refuses before anything is copied, `wheels` and `runtime_files` make what is
missing, `installer` (there) takes it. A second deploy of the same finds it all there, and sends nothing.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge import zoo
from edge.run import host, ssh
from edge.run.pi import memory, probe, wheels
from edge.run.pi import runtime_files as files
from edge.run.pi.computer import MB, Computer, refuse, understand, warnings
from edge.run.pi.visit import Failed, Parcel, Progress, Visit
from edge.terminal import one_line
from firmware_tools import graph
from firmware_tools.errors import BadFile, DoesNotFit, LinkError, UserError

SPARE_DISK_BYTES = 32 * MB
HASH = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Deployed:
    """What was done: sent bytes are 0 where it was all there; runtime and numpy are versions as they said there."""

    target: str
    computer: str
    warnings: tuple[str, ...]
    runtime: str
    numpy: str
    runtime_sha256: str
    runtime_sent_bytes: int
    model: str
    model_sha256: str
    model_bytes: int
    model_sent_bytes: int
    memory_needed_bytes: int
    memory_available_bytes: int | None


@dataclass(frozen=True)
class Brought:
    """What a runtime is made of."""

    own: files.Archive
    wheels: tuple[wheels.Wheel, ...]

    @property
    def digest(self) -> str:
        made_of = f"{self.own.digest} {files.packages_digest(self.wheels)} {files.AGENT_SCRIPT}"
        return hashlib.sha256(made_of.encode()).hexdigest()


@dataclass(frozen=True)
class Removed:
    """models: hashes of what was removed; everything: nothing of ours is left there."""

    target: str
    models: tuple[str, ...]
    everything: bool


@contextmanager
def visit(destination: ssh.Destination) -> Iterator[Visit]:
    """The other computer, which has told what it is."""
    process = ssh.start_python(destination, Path(str(probe.__file__)).read_text(encoding="utf-8"))
    with Visit(process, lambda code, stderr: ssh.explain(destination, code, stderr)) as there:
        yield there


def deploy(model: Path, there: Visit, target: str, progress: Progress, called: str = "") -> Deployed:
    """Brings a model, and what is missing of the runtime. Raises UserError, with nothing left half-done there.

    called: how the user calls the model, where that is not its path.
    """
    computer = understand(there.found)
    refuse(computer, target)
    facts = graph.read(model)
    check_form(model, facts, computer)
    needed = memory.refuse(facts, computer, target)
    progress("downloading the runtime, unless it is kept", 0, 1)
    brought = Brought(files.own_files(), tuple(wheels.wheels(wheels.platform_of(computer))))
    with _explained(there, target):
        there.start_installer()
        there.ask("lock")
        runtime, sent = _bring_runtime(there, target, brought, computer.disk_free_bytes, progress)
        parcel = Parcel("model", facts.file_sha256, model.stat().st_size, model)
        model_sent = _bring_model(there, target, parcel, progress)
        there.ask("sweep")
    return Deployed(
        target=target,
        computer=computer.title(),
        warnings=tuple(trouble.what for trouble in warnings(computer)),
        runtime=one_line(str(runtime.get("runtime")))[:100],
        numpy=one_line(str(runtime.get("numpy")))[:100],
        runtime_sha256=brought.digest,
        runtime_sent_bytes=sent,
        model=called or str(model),
        model_sha256=facts.file_sha256,
        model_bytes=parcel.size_bytes,
        model_sent_bytes=model_sent,
        memory_needed_bytes=needed.total_bytes,
        memory_available_bytes=computer.memory_available_bytes,
    )


def check_form(path: Path, model: graph.Graph, computer: Computer) -> None:
    """What a runtime would refuse is not copied to it."""
    if computer.bits == 32 and not host.old_form(model):
        raise BadFile(
            f"{path} is not written for the runtime of 32-bit systems",
            "edge convert SOURCE -o MODEL.tflite --runtime 2.14 writes one that is",
        )


def _bring_runtime(
    there: Visit, target: str, brought: Brought, free_bytes: int | None, progress: Progress
) -> tuple[dict[str, Any], int]:
    """What the runtime says of itself, and how many bytes were sent for it."""
    state = there.ask_facts("state")
    if state.get("current") == brought.digest:
        try:
            return there.ask_facts("check", sha256=brought.digest), 0
        except Failed as failed:
            if failed.why != "check":
                raise  # else something is missing or damaged: made anew
        there.ask("forget", sha256=brought.digest)
        state = there.ask_facts("state")
    runtimes = state.get("runtimes")
    packages = files.packages_digest(brought.wheels)
    has_packages = isinstance(runtimes, dict) and packages in runtimes.values()
    archives = [brought.own] if has_packages else [brought.own, files.packages(brought.wheels)]
    parcels = [Parcel.of("runtime", archive.path) for archive in archives]
    unpacked = sum(archive.unpacked_bytes for archive in archives)
    _check_disk(target, "the runtime", unpacked + sum(parcel.size_bytes for parcel in parcels), free_bytes)
    sent = sum(_send(there, parcel, there.offset_of(parcel), "runtime", progress) for parcel in parcels)
    progress("unpacking and starting the runtime", 0, 1)
    found = there.ask_facts(
        "install",
        sha256=brought.digest,
        files=parcels[0].sha256,
        packages=parcels[1].sha256 if len(parcels) > 1 else packages,
        packages_id=packages,
        agent=files.AGENT_SCRIPT,
    )
    return found, sent


def _bring_model(there: Visit, target: str, parcel: Parcel, progress: Progress) -> int:
    offset = there.offset_of(parcel)
    if offset is not None:
        free = there.ask("free")
        _check_disk(target, "the model", parcel.size_bytes - offset, free if isinstance(free, int) else None)
    return _send(there, parcel, offset, "model", progress)


def _send(there: Visit, parcel: Parcel, offset: int | None, label: str, progress: Progress) -> int:
    return 0 if offset is None else there.send(parcel, offset, label, progress)


def _check_disk(target: str, what: str, needed_bytes: int, free_bytes: int | None) -> None:
    if free_bytes is not None and needed_bytes + SPARE_DISK_BYTES > free_bytes:
        raise DoesNotFit(
            f"the disk of {target} has {free_bytes / MB:,.0f} MB left, and {what} takes {needed_bytes / MB:,.0f} MB "
            f"(and {SPARE_DISK_BYTES / MB:,.0f} MB to spare)",
            f"make room there; `edge deploy --remove --to {target}` removes what edge has brought",
        )


def remove(model: str | None, there: Visit, target: str) -> Removed:
    """Removes a model (a path, a name of the zoo, or the beginning of its hash); everything where None, or was last."""
    computer = understand(there.found)
    if computer.system != "Linux" or computer.python < (3, 10, 0):
        raise UserError(f"nothing can have been deployed to {target}: it runs {computer.title()}")
    with _explained(there, target):
        there.start_installer()
        there.ask("lock")
        models = _models(there)
        if model is None:
            gone = tuple(sorted(models)) if there.ask("remove_all") else ()
            return Removed(target, gone, True)
        name = _hash_of(model, sorted(models), target)
        there.ask("remove_model", kind="model", sha256=name)
        everything = not _models(there)
        if everything:
            there.ask("remove_all")
    return Removed(target, (name,) if name in models else (), everything)


def _models(there: Visit) -> list[str]:
    models = there.ask_facts("state").get("models")
    return [str(name) for name in models if HASH.fullmatch(str(name))] if isinstance(models, dict) else []


def _hash_of(model: str, there: list[str], target: str) -> str:
    if HASH.fullmatch(model) and not Path(model).exists():
        found = [name for name in there if name.startswith(model)]
        if len(found) != 1:
            what = "no model" if not found else "more than one model"
            raise UserError(f"{target} has {what} whose hash begins with {model}", f"edge doctor {target} lists them")
        return found[0]
    return Parcel.of("model", zoo.find(model)).sha256


@contextmanager
def _explained(there: Visit, target: str) -> Iterator[None]:
    """What the installer could not do, as a UserError; what would only take room there is removed first."""
    try:
        yield
    except LinkError:  # nobody is there any more to tidy up
        raise
    except UserError:
        _tidy(there)
        raise
    except Failed as failed:
        if failed.why in ("disk_full", "check"):
            _tidy(there)
        raise _error(failed, target) from failed


def _tidy(there: Visit) -> None:
    """Removes what is not whole, and where nothing else is left, all of it."""
    with suppress(Failed, UserError):  # the first failure is the one to tell
        there.ask("sweep")
        state = there.ask_facts("state")
        if not (state.get("runtimes") or state.get("models") or state.get("parts")):
            there.ask("remove_all")


def _error(failed: Failed, target: str) -> UserError:
    reason = one_line(failed.reason)
    if failed.why == "busy":
        return LinkError(
            f"{target}: {reason}", "wait for it to end; one whose host has vanished ends by itself within 10 minutes"
        )
    if failed.why == "disk_full":
        hint = "make room there (on it: df -h ~); what was half copied has been removed"
        return DoesNotFit(f"the disk of {target} is full: {reason}", hint)
    if failed.why == "check":
        return UserError(f"{target}: {reason}", f"nothing was switched over; edge doctor {target} may know more")
    if failed.why == "damaged":
        return LinkError(f"{target}: {reason}", "try again; if it comes back, its memory or card is damaged")
    return LinkError(f"{target}: {reason}", "look at it there; nothing was switched over")


def deployed_text(done: Deployed) -> str:
    sent = done.runtime_sent_bytes + done.model_sent_bytes
    lines = [f"{done.target}: {done.computer}", *(f"warning: {warning}" for warning in done.warnings)]
    lines.append(f"runtime: {done.runtime}, numpy {done.numpy}{_sent(done.runtime_sent_bytes)}")
    free = f" of {done.memory_available_bytes / MB:,.0f} MB free" if done.memory_available_bytes is not None else ""
    lines.append(
        f"model: {done.model}, {done.model_bytes / MB:,.1f} MB{_sent(done.model_sent_bytes)}; "
        f"needs about {done.memory_needed_bytes / MB:,.0f} MB of memory{free}"
    )
    lines.append(f"run it: edge run {done.model} --on {done.target}" if sent else "nothing to do: all of it is there")
    return "\n".join(lines) + "\n"


def _sent(size_bytes: int) -> str:
    return f" ({size_bytes / MB:,.1f} MB sent)" if size_bytes else " (was there)"


def removed_text(done: Removed) -> str:
    names = ", ".join(name[:12] for name in done.models) or "none"
    if done.everything:
        return f"{done.target}: removed everything of edge (models: {names})\n"
    return f"{done.target}: " + (f"removed model {names}\n" if done.models else "that model was not there\n")
