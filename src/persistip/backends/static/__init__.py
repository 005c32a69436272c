"""
No cloud: nothing to provision.

Addresses are usable inside the ``allowedAddresses`` of their class alone, since nobody else says who owns what; the
agents answer and announce for them on layer 2.
"""

from persistip.backends.static.allocator import StaticAllocator

__all__ = ["StaticAllocator"]
