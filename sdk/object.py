"""Virtual objects, under the name that the official SDK has them."""

from .service import VirtualObject

__all__ = ["VirtualObject"]
