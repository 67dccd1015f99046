"""``python -m stillhere``."""

from __future__ import annotations

from stillhere.cli.main import main

if __name__ == "__main__":
    main()
