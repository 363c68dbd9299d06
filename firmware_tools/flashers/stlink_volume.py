"""Copies an image to the volume that the debug probe on a board shows: ST-LINK of Nucleo and Discovery, DAPLink.

The probe writes what it gets into the chip's flash, starts it, and then its volume goes and comes back, perhaps under
another name. A file FAIL.TXT on it says that the probe could not; nothing tells that it could, and there are probes
that keep the old firmware without a word: only the running firmware tells what flash holds (CHECK of docs/link.md).

Which board a probe is on its volume's label tells (`NODE_F446RE`), or the code in its MBED.HTM. Sources: pyOCD 0.46,
board/board_ids.py (codes); Arduino_Core_STM32, boards.txt, and mbed-ls (labels, the address with the code);
https://community.st.com, https://os.mbed.com and https://github.com/wuxx/nanoDAP-HS (what is in FAIL.TXT, the volume
that has no room where the probe does not reach the chip).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from firmware_tools import volumes
from firmware_tools.errors import UserError
from firmware_tools.flashers import Flashed, Progress, State, Work
from firmware_tools.ports import MBED_PAGE as PAGE
from firmware_tools.ports import is_on
from firmware_tools.ports import mbed_code as code
from firmware_tools.transports import clean
from firmware_tools.volumes import Unmounted, Volume

if TYPE_CHECKING:
    from firmware_tools.boards import Board
    from firmware_tools.build import Image
    from firmware_tools.ports import Device

NEEDS = "nothing; the volume of the debug probe on the board"

FILE, DETAILS, FAIL = "image.bin", "DETAILS.TXT", "FAIL.TXT"
LAST_BYTES = 512
GONE_S, BACK_S = 10.0, 20.0
UNREACHED = (
    "the probe does not reach the chip: are its jumpers set, and is the chip powered? Firmware that sleeps, or uses "
    "the debug pins, is kept from running by BOOT0 at 3.3 V while you plug the board in"
)
# what FAIL.TXT may have in it, and what helps then; the first that fits
REMEDIES = (
    ("reset/halt", UNREACHED),
    ("not connected", UNREACHED),
    ("swd", UNREACHED),
    ("protect", "the flash is protected: STM32_Programmer_CLI -c port=SWD -ob RDP=0xAA removes that, and erases all"),
    ("erase", "is the chip's flash protected against writing? STM32_Programmer_CLI -c port=SWD -ob displ tells"),
    ("timed out", "copy it again; another USB port, and no hub, may help"),
)


def flash(image: Image, board: Board, device: Device, progress: Progress) -> Flashed:
    """Copies image to the probe on board; contract in flashers/__init__.py."""
    again = "flash it again: the probe does not need the chip's firmware for that"
    with Work(board.name, again) as work:
        progress("volume", 0, 0)
        volume = _volume(board, device)
        content = image.flash_content()
        with work.step("write"):
            _write(volume, content, work, progress)
        with work.step("restart"):
            progress("restart", 0, 0)
            after = _remounted(volume, board)
            _raise_failure(after or volume, work)
        return work.done(read_back=False)


def is_probe(volume: Volume) -> bool:
    """Is it the volume of a debug probe? Others are never written."""
    return volume.text(DETAILS) is not None or volume.text(PAGE) is not None


def _volume(board: Board, device: Device) -> Volume:
    """The volume of the one probe that is meant; UserError where it is on another board, or which is not clear."""
    if not board.programming.volumes and not board.programming.mbed_codes:
        raise UserError(f"no debug probe on {board.name} has a volume", f"its flashers: {', '.join(board.flashers)}")
    waiting = _waiting(board, device)
    if not (probes := _probes(device)) and len(waiting) == 1 and volumes.mount(waiting[0]):
        probes = _probes(device)
    fitting = [volume for volume in probes if is_on(volume, board)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        paths = ", ".join(f"{volume.path} (serial number {volume.serial_number or 'unknown'})" for volume in fitting)
        raise UserError(
            f"{len(fitting)} boards of this kind are plugged in: {paths}",
            f"name one: --to {board.name}@{fitting[0].path}",
        )
    if probes:
        others = ", ".join(f"{one.path} ({one.label}, code {code(one) or 'unknown'})" for one in probes)
        raise UserError(f"no debug probe here is on a {board.name}: {others}", _look(board))
    if device.volume is not None:
        raise UserError(f"{device.volume} is not the volume of a debug probe: it has no {DETAILS}", _look(board))
    hint = f": {waiting[0].hint}" if waiting else ""
    raise UserError(f"no volume of a debug probe is mounted{hint}", _look(board))


def _probes(device: Device) -> list[Volume]:
    """The mounted volumes of probes: the one that is named, those at the device's place, or all."""
    probes = [volume for volume in volumes.mounted() if is_probe(volume)]
    if device.volume is not None:
        path = device.volume.resolve()
        return [volume for volume in probes if volume.path.resolve() == path]
    return [one for one in probes if not device.location or volumes.same_place(one.location, device.location)]


def _waiting(board: Board, device: Device) -> list[Unmounted]:
    """The volumes of probes that nobody has mounted."""
    if device.volume is not None:
        return []
    ids = [(usb.vid, usb.pid) for usb in board.usb if usb.role == "probe"]
    places = volumes.unmounted(ids)
    return [one for one in places if not device.location or volumes.same_place(one.location, device.location)]


def _look(board: Board) -> str:
    names = " or ".join(board.programming.volumes)
    return f"the volume is called {names}; is it the right connector of the board, and a cable with data?"


def _write(volume: Volume, content: bytes, work: Work, progress: Progress) -> None:
    last = min(LAST_BYTES, len(content))

    def copied(done: int, total: int) -> None:
        # when the probe erases and writes is its own affair
        work.state = State.UNVERIFIED if done >= total - last else State.ERASING
        progress("write", done, total)

    try:
        volumes.copy(volume, FILE, content, last, copied)
    except volumes.CopyError as error:
        if error.refused:
            work.state = State.UNTOUCHED
        _raise_failure(volume, work)  # a volume without room is how a probe says that it has no chip
        raise


def _remounted(before: Volume, board: Board) -> Volume | None:
    """The volume when it has come back, under whatever name; None where it never went, or nobody mounts it again."""
    if not volumes.soon(lambda: not before.there or None, GONE_S):
        return None
    ids = [(usb.vid, usb.pid) for usb in board.usb if usb.role == "probe"]

    def waiting() -> Unmounted | None:
        places = [one for one in volumes.unmounted(ids) if volumes.same_place(one.location, before.location)]
        return places[0] if len(places) == 1 else None

    def back() -> Volume | None:
        found = [one for one in volumes.mounted() if is_probe(one) and _is(one, before, board)]
        return found[0] if len(found) == 1 else None

    if found := volumes.soon(back, BACK_S):
        return found
    if (left := waiting()) and volumes.mount(left):
        return back()
    if before.location and ids and not left:
        raise UserError(f"the debug probe has not come back in {BACK_S:g} s", "unplug the board, and plug it in again")
    return None


def _is(volume: Volume, before: Volume, board: Board) -> bool:
    if before.location:
        return volumes.same_place(volume.location, before.location)
    return is_on(volume, board)


def _raise_failure(volume: Volume, work: Work) -> None:
    """Raises what the probe's FAIL.TXT says."""
    text = volume.text(FAIL)
    if text is None:
        return
    told = clean(" ".join(text.split())) or "nothing"
    if work.state is State.UNVERIFIED:
        work.state = State.ERASING  # the probe may have begun, and ended anywhere
    remedy = next((hint for word, hint in REMEDIES if word in told.lower()), "try it again, or another flasher: --by")
    raise UserError(f"the debug probe says in {FAIL}: {told}", remedy)
