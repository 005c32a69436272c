"""
Google Compute Engine, by google-cloud-compute.

    resources.py   what a resource is; names and the mark by which a process without memory knows its own
    plan.py        what stands, what is wanted -> the calls that may be made now          (pure)
    errors.py      what the service answers -> what the loop must do                      (pure, but for the types)
    client.py      one call each, nothing else
    book.py        what is known of the project, and how old that is
    allocator.py   the AddressAllocator: jobs, one for each route that is under way
    location.py    project, region and cluster, from settings or the metadata server

Google's library is loaded with the client, by the controller alone. What was never tried on a live project is said in
``docs/explanation/compute-engine.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from persistip.backends.gce.allocator import GceAllocator, open_allocator

__all__ = ["GceAllocator", "open_allocator"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module  # noqa: PLC0415 - the rules here are used without Google's library

        return getattr(import_module("persistip.backends.gce.allocator"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
