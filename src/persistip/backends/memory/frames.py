"""
What travels between a store's server and its clients?

Frames on a stream: four bytes of length, then one JSON message. A client numbers its calls; an answer carries the
number of its call, and so does every event of a watch until the one message that ends it.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from persistip.backends.memory.errors import AlreadyExistsError, ConflictError, ExpiredError, NotFoundError
from persistip.errors import BackendError, RejectedError, StaleError, UnavailableError

_LENGTH_BYTES = 4
_MAX_BYTES = 256 * 1024 * 1024


class Call(msgspec.Struct, omit_defaults=True):
    """From the client: ``what`` is a method of ObjectStore, or ``unwatch`` with the number of a watch."""

    id: int
    what: str
    arguments: dict[str, Any] = {}


class Failure(msgspec.Struct):
    """An error of ours by the name of its class."""

    name: str
    message: str
    system: str
    operation: str
    target: str


class Answer(msgspec.Struct, omit_defaults=True):
    """From the server: a result, a failure, or (``event``) a change; ``is_end`` closes a watch."""

    id: int
    result: Any = None
    failure: Failure | None = None
    event: str = ""
    is_end: bool = False


_ENCODER = msgspec.json.Encoder()
CALLS = msgspec.json.Decoder(Call)
ANSWERS = msgspec.json.Decoder(Answer)

_ERRORS: dict[str, type[BackendError]] = {
    error.__name__: error
    for error in (
        AlreadyExistsError,
        ConflictError,
        ExpiredError,
        NotFoundError,
        RejectedError,
        StaleError,
        UnavailableError,
    )
}


def write_frame(writer: asyncio.StreamWriter, message: Call | Answer) -> None:
    """Queue one message; the caller drains."""
    data = _ENCODER.encode(message)
    writer.write(len(data).to_bytes(_LENGTH_BYTES, "big") + data)


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """The next message, or None when the stream has ended or makes no sense."""
    try:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES), "big")
        return await reader.readexactly(length) if length <= _MAX_BYTES else None
    except (asyncio.IncompleteReadError, OSError):
        return None


def to_failure(error: BackendError) -> Failure:
    """*error* as it travels; a class unknown here travels as the nearest that is known."""
    name = next((each.__name__ for each in type(error).__mro__ if each.__name__ in _ERRORS), "UnavailableError")
    message = str(error.args[0]) if error.args else ""
    return Failure(name, message, error.system, error.operation, error.target)


def to_error(failure: Failure) -> BackendError:
    """The error that *failure* was."""
    kind = _ERRORS.get(failure.name, UnavailableError)
    return kind(failure.message, system=failure.system, operation=failure.operation, target=failure.target)
