"""What an API server answers with 404, 409 and 410: all of them say that the caller's picture is old."""

from __future__ import annotations

from persistip.errors import StaleError


class NotFoundError(StaleError):
    """404: no such object."""


class AlreadyExistsError(StaleError):
    """409 on create: the name is taken."""


class ConflictError(StaleError):
    """409: a precondition failed, or a field belongs to another manager."""


class ExpiredError(StaleError):
    """410: the history that a watch asked for is gone; list again."""
