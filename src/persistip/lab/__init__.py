"""
A whole cluster on one machine: network namespaces as nodes and Pods, real packets, the real controller and agents.

In: manifests.  Out: a story on the terminal, a table, the result as JSON.
The lab may write manifests, signal processes and cut links; what the client outside received is its only judge.
"""
