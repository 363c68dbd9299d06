"""`edge` with simulated hardware plugged in: EDGE_SIMULATED names the folder of the bus."""

from __future__ import annotations

import os
from pathlib import Path

from edge.cli import main
from tests import simulated

if __name__ == "__main__":
    simulated.see(Path(os.environ["EDGE_SIMULATED"]), setattr)
    main()
