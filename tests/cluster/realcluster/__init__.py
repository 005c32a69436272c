"""
A Kubernetes cluster of several real nodes inside one machine, and an outside client that judges it.

Nothing here stands in for Kubernetes: kubelets, containerd, runc, network plugins and kube-proxy are the real ones, and
a node is a set of namespaces with a first process that can lose its power. Read `cluster`, then `node` and `segment`.
"""
