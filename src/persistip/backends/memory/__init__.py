"""
A cluster and its nodes with true semantics and no outside system: for docs, tests, simulation and embedding.

``MemoryStore`` answers as an API server does, ``MemoryCluster`` is the Cluster on it and ``MemoryLease`` the Lease;
``StoreServer`` and ``RemoteStore`` put a unix socket between store and user; ``MemoryFabric``, ``MemoryDatapath`` and
``MemoryAnnouncer`` say what a packet would do; ``MemoryCloud`` is a cloud that takes its time, and ``MemoryAllocator``
works on it.
"""

from persistip.backends.memory.cloud import MemoryAllocator, MemoryCloud
from persistip.backends.memory.cluster import MemoryCluster
from persistip.backends.memory.datapath import MemoryAnnouncer, MemoryDatapath
from persistip.backends.memory.errors import AlreadyExistsError, ConflictError, ExpiredError, NotFoundError
from persistip.backends.memory.fabric import Delivered, Dropped, FabricNode, FabricPod, MemoryFabric
from persistip.backends.memory.lease import MemoryLease
from persistip.backends.memory.remote import RemoteStore
from persistip.backends.memory.server import StoreServer
from persistip.backends.memory.store import Listing, MemoryStore, ObjectStore
from persistip.backends.memory.watching import WatchEvent

__all__ = [
    "AlreadyExistsError",
    "ConflictError",
    "Delivered",
    "Dropped",
    "ExpiredError",
    "FabricNode",
    "FabricPod",
    "Listing",
    "MemoryAllocator",
    "MemoryAnnouncer",
    "MemoryCloud",
    "MemoryCluster",
    "MemoryDatapath",
    "MemoryFabric",
    "MemoryLease",
    "MemoryStore",
    "NotFoundError",
    "ObjectStore",
    "RemoteStore",
    "StoreServer",
    "WatchEvent",
]
