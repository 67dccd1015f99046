"""``python -m stillhere.simulation 0-299 [--jobs N] [--mutant NAME] [--trace SEED]``."""

from __future__ import annotations

import sys

from stillhere.simulation.command import main

sys.exit(main())
