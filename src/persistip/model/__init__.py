"""
The nouns: frozen values without I/O, one noun a file.

Standard library and attrs only. What these values mean is said by Gateway API, Kubernetes and GKE's persistent
IP documentation; where those are silent, by the module that decides about them in ``persistip.decide``.
"""
