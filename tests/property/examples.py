"""Number of examples that the property tests of policy draw: more if that is asked for.

``CILIA_EXAMPLES=10 .venv/bin/python -m pytest tests/property`` draws ten times as many.
"""

import os


def examples(count: int) -> int:
    """Return how many examples to draw where ``count`` are drawn by default."""
    return max(1, round(count * float(os.environ.get("CILIA_EXAMPLES", "1"))))
