"""What a child process may take, so that a bad model ends it and nothing else."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path


def set_limits(spare_bytes: int) -> None:
    """Where the platform can: no core dumps, and an end to the address space so far beyond what is used now."""
    try:
        import resource
    except ImportError:  # Windows
        return
    used_bytes = 0
    with contextlib.suppress(OSError):  # Linux only; the libraries' share of it grows with the number of cores
        used_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most_bytes = min(used_bytes + spare_bytes, sys.maxsize)
    wanted = {resource.RLIMIT_CORE: 0, resource.RLIMIT_AS: most_bytes}
    for kind, soft in wanted.items():
        hard = resource.getrlimit(kind)[1]
        limit = soft if hard == resource.RLIM_INFINITY else min(soft, hard)
        with contextlib.suppress(ValueError, OSError):  # macOS does not limit the address space
            resource.setrlimit(kind, (limit, hard))
