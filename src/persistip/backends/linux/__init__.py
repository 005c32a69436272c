"""
The Linux kernel as a datapath.

``LinuxDatapath`` delivers addresses by routes, neighbour entries and nftables of the network namespace it is made
in. It needs Python and the right to change that namespace, and nothing else: no ``nft`` program, no library.
"""

from persistip.backends.linux.datapath import LinuxDatapath
from persistip.backends.linux.sysctls import Changed

__all__ = ["Changed", "LinuxDatapath"]
