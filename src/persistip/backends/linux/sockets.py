"""
How does a request reach the kernel, and how is each answer told from the next?

In: messages.  Out: for each message None or a Refusal, or the messages of a dump.
The rules are the kernel's: rtnetlink and nfnetlink work through a send before it returns, and answer a message that
asks for no acknowledgement only when it failed. So a thousand messages cost one send, and what failed is found by one
look at the queue: the sequence number is the message's place in the list.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

import attrs

from persistip.backends.linux.attributes import parse_attributes, read_text
from persistip.backends.linux.errors import error_from_os, unavailable

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

REQUEST = 0x1
DUMP = 0x300
REPLACE = 0x100
EXCL = 0x200
CREATE = 0x400

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_DUMP_INTERRUPTED = 0x10
_ERROR_CAPPED = 0x100
_ERROR_HAS_TEXT = 0x200
_SOL_NETLINK = 270
_OPTION_CAP_ACK = 10
_OPTION_EXT_ACK = 11
_OPTION_STRICT_CHECK = 12
_NLMSGERR_TEXT = 1

_HEADER = struct.Struct("=IHHII")
HEADER_SIZE = 16

_MESSAGES_PER_SEND = 500
"""So that the refusals of one send, about 800 bytes each to the kernel, always fit the receive buffer."""

_BYTES_PER_SEND = 256 * 1024
"""Well below the send buffer asked for; a larger one is not granted without privileges over the whole machine."""

_RECEIVE_BYTES = 1 << 17
_BUFFER_BYTES = 4 << 20
_DUMP_ATTEMPTS = 5
_TIMEOUT_SECONDS = 5


@attrs.frozen
class Message:
    """One netlink message without its header: number, flags and body."""

    number: int
    flags: int
    body: bytes


@attrs.frozen
class Refusal:
    """The kernel's no to one message: the error number, and its own words where it has any."""

    code: int
    text: str

    @property
    def name(self) -> str:
        """The error's symbol, such as EEXIST."""
        return errno.errorcode.get(self.code, str(self.code))


def pack(message: Message, sequence: int) -> bytes:
    """The bytes of one message; always a request."""
    body = message.body
    return _HEADER.pack(HEADER_SIZE + len(body), message.number, message.flags | REQUEST, sequence, 0) + body


def unpack(data: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Number, flags, sequence, sender's port and body of each message in *data*."""
    offset, stop = 0, len(data)
    while offset + HEADER_SIZE <= stop:
        size, number, flags, sequence, port = _HEADER.unpack_from(data, offset)
        if size < HEADER_SIZE:
            break
        yield number, flags, sequence, port, data[offset + HEADER_SIZE : offset + size]
        offset += (size + 3) & ~3


def set_buffers(sock: socket.socket, size: int) -> None:
    """
    Ask for large buffers.

    Beyond the machine's limit this needs a privilege that a user namespace does not give; the limit then has to do.
    """
    for forced, plain in (
        (getattr(socket, "SO_RCVBUFFORCE", 33), socket.SO_RCVBUF),
        (getattr(socket, "SO_SNDBUFFORCE", 32), socket.SO_SNDBUF),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, forced, size)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, plain, size)


class NetlinkSocket:
    """
    One netlink socket in the network namespace of the calling thread.

    Calls block for as long as the kernel works on them (microseconds a message); a time limit turns a kernel that
    does not answer into ``UnavailableError``.
    """

    def __init__(self, family: int) -> None:
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, family)
        except OSError as error:
            raise error_from_os(error, "open", f"netlink family {family}") from error
        try:
            set_buffers(self._socket, _BUFFER_BYTES)
            for option in (_OPTION_CAP_ACK, _OPTION_EXT_ACK, _OPTION_STRICT_CHECK):
                self._set_option(option)
            self._socket.bind((0, 0))
            for limit in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
                self._socket.setsockopt(socket.SOL_SOCKET, limit, struct.pack("=qq", _TIMEOUT_SECONDS, 0))
        except OSError as error:
            self._socket.close()
            raise error_from_os(error, "open", f"netlink family {family}") from error
        self.port: int = self._socket.getsockname()[0]

    def _set_option(self, option: int) -> None:
        """Kernels that lack an option give longer answers or unfiltered dumps; both are read all the same."""
        try:
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def request(self, messages: Sequence[Message]) -> list[Refusal | None]:
        """
        Hand all *messages* over, in order; one answer per message, None where it was done.

        A refused message does not stop the next. Raises ``UnavailableError`` where answers were lost: the outcome is
        then unknown and has to be observed.
        """
        answers: list[Refusal | None] = [None] * len(messages)
        for start, stop in _portions(messages):
            packed = b"".join(pack(messages[index], index) for index in range(start, stop))
            self._send(packed)
            self._drain(answers)
        return answers

    def request_whole(self, messages: Sequence[Message]) -> list[Refusal | None]:
        """The same in exactly one send: for batches that the kernel takes as a transaction."""
        answers: list[Refusal | None] = [None] * len(messages)
        self._send(b"".join(pack(message, index) for index, message in enumerate(messages)))
        self._drain(answers)
        return answers

    def dump(self, message: Message) -> list[tuple[int, bytes]]:
        """
        All objects that answer *message*, as message number and body.

        A dump during which the tables changed may lack entries that never went away; it is taken anew. Raises by the
        table of ``errors.py`` when the kernel refuses, ``UnavailableError`` when it never held still.
        """
        for _ in range(_DUMP_ATTEMPTS):
            self._discard()
            self._send(pack(Message(message.number, message.flags | DUMP, message.body), 1))
            found = self._collect(message)
            if found is not None:
                return found
        raise unavailable("the tables kept changing under the dump", "dump", str(message.number))

    def ask(self, message: Message) -> tuple[int, bytes] | Refusal:
        """The one object that answers *message*, or the kernel's refusal."""
        self._discard()
        self._send(pack(message, 1))
        for number, _flags, sequence, _port, body in unpack(self._receive()):
            if sequence == 1:
                refusal = _refusal(number, _flags, body)
                return (number, body) if refusal is None else refusal
        raise unavailable("no answer", "ask", str(message.number))

    def _send(self, packed: bytes) -> None:
        try:
            self._socket.sendto(packed, (0, 0))
        except OSError as error:
            raise error_from_os(error, "send", "netlink") from error

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_RECEIVE_BYTES)
        except OSError as error:
            raise error_from_os(error, "receive", "netlink") from error

    def _receive_queued(self) -> bytes | None:
        try:
            return self._socket.recv(_RECEIVE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except OSError as error:
            raise error_from_os(error, "receive", "netlink") from error

    def _discard(self) -> None:
        """Answers left by a call that was broken off must not be taken for those of the next."""
        while self._receive_queued() is not None:
            continue

    def _drain(self, answers: list[Refusal | None]) -> None:
        while (data := self._receive_queued()) is not None:
            for number, flags, sequence, _port, body in unpack(data):
                refusal = _refusal(number, flags, body)
                if refusal is not None and sequence < len(answers):
                    answers[sequence] = refusal

    def _collect(self, message: Message) -> list[tuple[int, bytes]] | None:
        found: list[tuple[int, bytes]] = []
        is_interrupted = False
        while True:
            for number, flags, _sequence, _port, body in unpack(self._receive()):
                is_interrupted = is_interrupted or bool(flags & _DUMP_INTERRUPTED)
                if number == _NLMSG_DONE:
                    code = -int.from_bytes(body[:4], "little" if _IS_LITTLE else "big", signed=True) if body else 0
                    if code > 0:
                        raise error_from_os(OSError(code, "dump failed"), "dump", str(message.number))
                    return None if is_interrupted else found
                if number == _NLMSG_ERROR:
                    refusal = _refusal(number, flags, body)
                    if refusal is not None:
                        raise error_from_os(OSError(refusal.code, refusal.text), "dump", str(message.number))
                    continue
                found.append((number, body))


_IS_LITTLE = struct.pack("=H", 1) == b"\1\0"


def _refusal(number: int, flags: int, body: bytes) -> Refusal | None:
    if number != _NLMSG_ERROR:
        return None
    code = -int(struct.unpack_from("=i", body)[0])
    if code == 0:
        return None
    text = ""
    if flags & _ERROR_HAS_TEXT:
        asked_size = int(struct.unpack_from("=I", body, 4)[0])
        start = 4 + (HEADER_SIZE if flags & _ERROR_CAPPED else (asked_size + 3) & ~3)
        text = read_text(parse_attributes(body, start).get(_NLMSGERR_TEXT, b""))
    return Refusal(code, text)


def _portions(messages: Sequence[Message]) -> Iterator[tuple[int, int]]:
    """Cut a long list where a send would grow too large, by number or by bytes."""
    start, size = 0, 0
    for index, message in enumerate(messages):
        length = HEADER_SIZE + len(message.body)
        if index > start and (index - start >= _MESSAGES_PER_SEND or size + length > _BYTES_PER_SEND):
            yield start, index
            start, size = index, 0
        size += length
    if start < len(messages):
        yield start, len(messages)
