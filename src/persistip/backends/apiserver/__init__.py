"""
A Kubernetes API server as the cluster.

``ApiServerCluster`` is the Cluster on it and ``ApiServerLease`` the Lease; ``find_access`` says where it is and who we
are, from a kubeconfig or from what a Pod is given. ``Console`` is what a person's command uses: one look at everything,
one object changed or deleted.
"""

from persistip.backends.apiserver.access import Access, Load, find_access
from persistip.backends.apiserver.cluster import ApiServerCluster
from persistip.backends.apiserver.console import Console
from persistip.backends.apiserver.lease import ApiServerLease
from persistip.backends.apiserver.snapshot import Snapshot

__all__ = ["Access", "ApiServerCluster", "ApiServerLease", "Console", "Load", "Snapshot", "find_access"]
