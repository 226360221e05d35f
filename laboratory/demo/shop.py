"""Shop of the demo: its pods, and the requests that are tried between them."""

from pathlib import Path
from typing import Final

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
HTTP: Final = 80
BACKEND: Final = {"tier": "backend"}
PODS: Final = (
    ("node1", "edge", "gateway-1", {"app": "gateway"}),
    ("node2", "edge", "gateway-2", {"app": "gateway"}),
    ("node3", "edge", "monitoring", {"app": "monitoring"}),
    ("node1", "shop", "frontend-1", {"app": "frontend"}),
    ("node2", "shop", "frontend-2", {"app": "frontend"}),
    ("node3", "shop", "frontend-3", {"app": "frontend"}),
    ("node1", "shop", "catalog-1", {"app": "catalog"} | BACKEND),
    ("node3", "shop", "catalog-2", {"app": "catalog"} | BACKEND),
    ("node2", "shop", "cart-1", {"app": "cart"} | BACKEND),
    ("node3", "shop", "cart-2", {"app": "cart"} | BACKEND),
    ("node2", "shop", "db", {"app": "db"}),
    ("node1", "shop", "batch", {"app": "batch"}),
)
REQUESTS: Final = (
    ("edge/gateway-1", "shop/frontend-1"),
    ("edge/gateway-1", "shop/frontend-3"),
    ("shop/frontend-1", "shop/catalog-1"),
    ("shop/frontend-2", "shop/cart-2"),
    ("shop/catalog-1", "shop/db"),
    ("shop/cart-2", "shop/db"),
    ("edge/gateway-1", "shop/db"),
    ("shop/frontend-1", "shop/db"),
    ("shop/batch", "shop/catalog-2"),
    ("edge/monitoring", "shop/catalog-2"),
)
ALLOWED: Final = frozenset(REQUESTS[:6])
"""Requests that the policies of ``examples/shop`` allow."""
SCRAPE: Final = ("edge/monitoring", "shop/catalog-2")
"""Request that the policy of ``examples/live`` allows on top."""
