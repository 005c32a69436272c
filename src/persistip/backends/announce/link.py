"""
How does a frame get onto a link?

In: a link, frames.  Out: the frames on the wire, with the link's own hardware address, or an error of ours.
"""

from __future__ import annotations

import socket
from typing import Protocol

from persistip.backends.announce.errors import from_os_error
from persistip.errors import BackendError, RejectedError, StaleError
from persistip.model.entry import LinkRef

_ARPHRD_ETHER = 1


class Wire(Protocol):
    """One link, open for sending."""

    def hardware_address(self) -> bytes:
        """What the link has now; 6 bytes."""
        ...

    def send(self, frame: bytes) -> None:
        """Send one whole Ethernet frame, without waiting."""
        ...

    def close(self) -> None:
        """Send no more."""
        ...


class PacketWire:
    """
    A packet socket bound to one link of this process's network namespace.

    Raises StaleError where the link is gone or another has its name, RefusedError without CAP_NET_RAW.
    """

    def __init__(self, link: LinkRef) -> None:
        self._link = link
        try:
            # Protocol 0: it sends, and the kernel hands it nothing.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        except OSError as error:
            raise from_os_error(error, "open", link.name) from error
        try:
            self._bind()
        except BackendError:
            self._socket.close()
            raise

    def _bind(self) -> None:
        try:
            index = socket.if_nametoindex(self._link.name)
            self._socket.bind((self._link.name, 0))
        except OSError as error:
            raise from_os_error(error, "bind", self._link.name) from error
        if index != self._link.index:
            raise self._is_another()
        self.hardware_address()

    def hardware_address(self) -> bytes:
        """Read anew each time: it may be changed under an open socket."""
        try:
            name, _, _, kind, address = self._socket.getsockname()
        except OSError as error:
            raise from_os_error(error, "read", self._link.name) from error
        if not name:
            # The kernel's way to say that the device behind the socket is gone.
            raise self._is_another()
        if kind != _ARPHRD_ETHER:
            message = "not an Ethernet link"
            raise RejectedError(message, system="announce", operation="read", target=self._link.name)
        return bytes(address)

    def send(self, frame: bytes) -> None:
        """Send one frame; ENETDOWN, ENOBUFS and the like raise UnavailableError."""
        try:
            self._socket.send(frame)
        except OSError as error:
            raise from_os_error(error, "send", self._link.name) from error

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _is_another(self) -> StaleError:
        return StaleError("the link is gone or was made again", system="announce", target=self._link.name)
