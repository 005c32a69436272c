"""
Does a backend keep the promises of its interface?

Subclass a contract in a test module and say how to make the world around the backend; every promise of the interface's
docstrings is then a test. The tests are plain functions that run a loop of their own, so no plugin is needed.

    class TestAcme(DatapathContract):
        def make(self):
            return acme_world()        # an asynchronous context manager that gives a DatapathWorld
"""

from persistip.testing.allocator_contract import AllocatorContract
from persistip.testing.cluster_contract import ClusterContract
from persistip.testing.cluster_world import ClusterWorld
from persistip.testing.datapath_contract import DatapathContract, DatapathWorld
from persistip.testing.lease_contract import LeaseContract
from persistip.testing.mode_contract import ReactionModeContract

__all__ = [
    "AllocatorContract",
    "ClusterContract",
    "ClusterWorld",
    "DatapathContract",
    "DatapathWorld",
    "LeaseContract",
    "ReactionModeContract",
]
