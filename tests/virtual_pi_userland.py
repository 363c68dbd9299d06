"""The userlands of virtual Raspberry Pis: Debian for ARM, taken apart from its packages without running any of them.

Each is built once, into a cache below the user's own ($EDGE_TEST_CACHE, else ~/.cache/edge-tests) and never into the
project, under a name that has the hash of this file: edit the recipe and the next run builds anew. The packages come
from the Debian server that apt of this machine uses.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

COMMON = (
    "base-files,base-passwd,dash,bash,coreutils,grep,sed,tar,gzip,findutils,procps,util-linux,hostname,libc-bin,"
    "python3,libpython3-stdlib,libstdc++6,zlib1g,libgomp1,libatomic1,openssh-server,openssh-sftp-server"
)
USERS = "pi:x:1000:1000:pi:/home/pi:/bin/bash\nsshd:x:105:65534::/run/sshd:/usr/sbin/nologin\n"
HOOKS = Path("/usr/share/mmdebstrap/hooks/merged-usr")  # /bin is a link to /usr/bin, as in every Debian of these days
BLAS = ("blas/libblas.so.3", "lapack/liblapack.so.3")


@dataclass(frozen=True)
class Kind:
    """A sort of Pi: `numpy` is Debian's own, which 32-bit needs as there is no wheel that tflite-runtime 2.14 takes."""

    name: str
    release: str
    architecture: str
    numpy: bool = False

    @property
    def packages(self) -> str:
        return COMMON + (",python3-numpy" if self.numpy else "")

    @property
    def triplet(self) -> str:
        return {"arm64": "aarch64-linux-gnu", "armhf": "arm-linux-gnueabihf"}[self.architecture]


PI64 = Kind("pi64", "bookworm", "arm64")
PI32 = Kind("pi32", "bookworm", "armhf", numpy=True)
OLD = Kind("old", "bullseye", "arm64")  # Python 3.9


def cache() -> Path:
    return Path(os.environ.get("EDGE_TEST_CACHE") or Path.home() / ".cache" / "edge-tests")


def userland(kind: Kind) -> Path:
    """The folder of this kind's userland, built if it is not there; one process builds, others wait for it."""
    import fcntl  # Linux, as all of this

    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    place = cache() / f"{kind.name}-{recipe}"
    cache().mkdir(parents=True, exist_ok=True)
    with open(cache() / f"{kind.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.is_dir():
            beside = Path(tempfile.mkdtemp(prefix=f"{kind.name}-building-", dir=cache()))
            try:
                extract(kind, beside / "root")
                furnish(kind, beside / "root")
                (beside / "root").rename(place)
            finally:
                shutil.rmtree(beside)
    return place


def extract(kind: Kind, root: Path) -> None:
    """Unpacks the packages; what they would run on installing is not run, so that nothing is emulated here."""
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--hook-dir={HOOKS}"]
    command += [f"--arch={kind.architecture}", f"--include={kind.packages}", kind.release, str(root)]
    done = subprocess.run([*command, *server()], capture_output=True, text=True, timeout=600)
    if done.returncode:
        raise RuntimeError(f"mmdebstrap {kind.release} {kind.architecture}: {done.stderr[-1500:]}")


def server() -> list[str]:
    """The Debian server that apt uses here; none where apt has none, and mmdebstrap takes its own."""
    question = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages", "Label: Debian"]
    return subprocess.run(question, capture_output=True, text=True, check=True).stdout.split()[:1]


def furnish(kind: Kind, root: Path) -> None:
    """By hand what the packages' scripts would have done: users, the shell, links of alternatives; one fake CPU."""
    etc = root / "etc"
    for name, more in (("passwd", USERS), ("group", "pi:x:1000:\n")):
        (etc / name).write_text((root / f"usr/share/base-passwd/{name}.master").read_text() + more)
    (etc / "shadow").write_text("".join(f"{user}:*:19000:0:99999:7:::\n" for user in ("root", "pi", "sshd")))
    (etc / "shadow").chmod(0o600)
    for folder in ("home/pi", "run/sshd", "dev", "proc", "sys/devices/system/cpu"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for name in ("possible", "present", "online"):  # without them XNNPACK is silently off, with the host's it crashes
        (root / "sys/devices/system/cpu" / name).write_text("0\n")
    if not (root / "bin/sh").exists():
        (root / "bin/sh").symlink_to("dash")
    for name in BLAS if kind.numpy else ():
        library = root / "usr/lib" / kind.triplet
        (library / Path(name).name).symlink_to(name)
    compile_python(root)


def compile_python(root: Path) -> None:
    """Byte code, as a Pi has it, where this Python writes that one's; without it every import there compiles anew."""
    if (root / f"usr/bin/python3.{sys.version_info.minor}").exists():
        folders = [root / f"usr/lib/python3.{sys.version_info.minor}", root / "usr/lib/python3/dist-packages"]
        command = [sys.executable, "-m", "compileall", "-q", "-s", str(root), "-p", "/"]
        subprocess.run([*command, *(str(folder) for folder in folders if folder.is_dir())], check=True)
