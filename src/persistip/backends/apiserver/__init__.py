"""
A Kubernetes API server as the cluster.

``ApiServerCluster`` is the Cluster on it and ``ApiServerLease`` the Lease; ``find_access`` says where it is and who we
are, from a kubeconfig or from what a Pod is given.
"""

from persistip.backends.apiserver.access import Access, Load, find_access
from persistip.backends.apiserver.cluster import ApiServerCluster
from persistip.backends.apiserver.lease import ApiServerLease

__all__ = ["Access", "ApiServerCluster", "ApiServerLease", "Load", "find_access"]
