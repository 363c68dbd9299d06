"""What flashers/pyocd.py has a Python with pyOCD do: `python -c THIS JSON`, in a folder with image.bin.

It says one line of JSON for each step, behind a mark, and leaves what it has read back as back.bin. It imports nothing
of edge's, and pyOCD nowhere else, so that whatever pyOCD does ends with this process. Source: pyOCD's documented API,
https://pyocd.io/docs/api_examples.html, version 0.46.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

MARK = "edge: "
READ_BYTES = 4096
SHARES = 50  # of a step that are told


def say(**told: Any) -> None:
    print(MARK + json.dumps(told), flush=True)


def shares(step: str) -> Callable[[float], None]:
    """Tells a step's progress, not too often."""
    last = -1

    def tell(share: float) -> None:
        nonlocal last
        if int(share * SHARES) > last:
            last = int(share * SHARES)
            say(step=step, share=min(1.0, share))

    return tell


def is_known(target: str) -> bool:
    """Does pyOCD bring this target, or has a pack for it been installed? Asks no network."""
    from pyocd.target import TARGET
    from pyocd.target.pack.pack_target import ManagedPacks

    return target in TARGET or any(one.part_number.lower() == target for one in ManagedPacks.get_installed_targets())


def probe(serial_number: str | None) -> Any:
    """The probe of that number, or the only one; None with the reason said. `remote:host:port` is a server of pyOCD's.

    USB has zeros before the number of a J-Link, and SEGGER's library has none.
    """
    from pyocd.core.helpers import ConnectHelper

    remote = serial_number if serial_number and ":" in serial_number else None
    found = ConnectHelper.get_all_connected_probes(blocking=False, unique_id=remote)
    if serial_number and not remote:
        wanted = serial_number.lower().lstrip("0")
        found = [one for one in found if one.unique_id.lower().lstrip("0") == wanted]
    if len(found) != 1:
        say(failed="several" if found else "no probe", probes=[[one.unique_id, one.description] for one in found])
        return None
    return found[0]


def flash(session: Any, start: int, size: int) -> None:
    """Writes, reads back and starts."""
    from pyocd.flash.file_programmer import FileProgrammer

    say(step="write", share=0.0)
    programmer = FileProgrammer(session, progress=shares("write"), chip_erase="sector", smart_flash=False)
    programmer.program("image.bin", base_address=start)
    say(step="verify", share=0.0)
    tell = shares("verify")
    with open("back.bin", "wb") as file:
        for at in range(0, size, READ_BYTES):
            file.write(bytes(session.target.read_memory_block8(start + at, min(READ_BYTES, size - at))))
            tell(at / size)
    say(step="start", share=0.0)
    session.target.reset()
    say(step="end", share=1.0)


def main() -> int:
    asked = json.loads(sys.argv[1])
    if not is_known(asked["target"]):
        say(failed="no pack")
        return 1
    chosen = probe(asked["serial_number"])
    if chosen is None:
        return 1
    from pyocd.core.session import Session

    # by default a locked nRF52 is unlocked by erasing it, without a question
    options = {"target_override": asked["target"], "auto_unlock": False, "no_config": True}
    try:
        with Session(chosen, options=options) as session:
            flash(session, asked["start"], asked["size"])
    except Exception as error:  # whatever pyOCD and libusb raise
        first: BaseException = error
        while first.__context__ is not None:  # to close a session that failed often fails, too
            first = first.__context__
        say(failed="raised", error=f"{type(first).__name__}: {first}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
