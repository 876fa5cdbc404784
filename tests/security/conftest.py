"""What attacks share with the integration tests: running banks beside a coordinator."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "integration"))
