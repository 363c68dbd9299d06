"""Whether a runtime can start: imports what the agent imports and prints, as JSON, what it found. Runs on a Pi.

python -m edge.run.pi.self_check
"""

from __future__ import annotations

import importlib
import json

import numpy as np

from edge.run.agent import __main__ as agent
from edge.run.agent import keeper, loading, runtimes


def main() -> None:
    assert agent and keeper and loading  # to import them is the check
    runtime = runtimes.find_runtime()
    for name in ("interpreter",) if runtime.package == runtimes.OLD else ("interpreter", "compiled_model"):
        importlib.import_module(f"{runtime.package}.{name}")
    print(json.dumps({"runtime": str(runtime), "numpy": np.__version__}))


if __name__ == "__main__":
    main()
