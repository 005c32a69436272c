"""
Where did the Pods live when they were first programmed?

In: pins.  Out: the same pins, after any crash.
A pin must be on disk before the first packet can follow it, so that a restarted agent does not take the next owner of
a Pod's IP for the Pod. The file is replaced as a whole and flushed to the disk, with its directory, before a call
returns: whoever reads it finds the old or the new set, never a half.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from persistip.backends.linux.errors import error_from_os
from persistip.errors import ConfigError
from persistip.model.entry import LinkRef, Pin

_FORMAT = 1


class PinStore:
    """The pins of one node, in one JSON file; one process at a time writes it."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "pins.json"
        try:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._pins = self._read()
        except OSError as error:
            raise error_from_os(error, "read", str(self._path)) from error

    @property
    def pins(self) -> frozenset[Pin]:
        """All pins."""
        return frozenset(self._pins.values())

    def update(self, recorded: Iterable[Pin], forgotten: Iterable[Pin]) -> None:
        """
        Write the pins *recorded*, each in place of the one for its attachment and Pod; drop those *forgotten*.

        Raises by the table of ``errors.py`` when the disk refuses; the pins are then what they were.
        """
        pins = dict(self._pins)
        for pin in forgotten:
            if pins.get(_key(pin)) == pin:
                del pins[_key(pin)]
        pins |= {_key(pin): pin for pin in recorded}
        if pins == self._pins:
            return
        try:
            self._write(pins)
        except OSError as error:
            raise error_from_os(error, "write", str(self._path)) from error
        self._pins = pins

    def _read(self) -> dict[tuple[str, str], Pin]:
        try:
            text = self._path.read_text()
        except FileNotFoundError:
            return {}
        try:
            content = json.loads(text)
            if content["format"] != _FORMAT:
                raise ConfigError(f"{self._path} has format {content['format']}, this version reads {_FORMAT}")
            pins = [_from_json(value) for value in content["pins"]]
        except (ValueError, KeyError, TypeError) as error:
            # Guessing would let the next owner of a Pod's IP be taken for the Pod.
            raise ConfigError(
                f"{self._path} cannot be read ({error}); remove it to let all Pods be found anew"
            ) from error
        return {_key(pin): pin for pin in pins}

    def _write(self, pins: Mapping[tuple[str, str], Pin]) -> None:
        content = {"format": _FORMAT, "pins": [_to_json(pins[key]) for key in sorted(pins)]}
        draft = self._path.with_suffix(".new")
        with draft.open("w") as file:
            json.dump(content, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _key(pin: Pin) -> tuple[str, str]:
    return pin.attachment_uid, pin.pod_uid


def _to_json(pin: Pin) -> dict[str, str | int]:
    return {
        "attachmentUID": pin.attachment_uid,
        "podUID": pin.pod_uid,
        "epoch": pin.epoch,
        "link": pin.link.name,
        "linkIndex": pin.link.index,
        "hardwareAddress": pin.hardware_address,
    }


def _from_json(value: Mapping[str, str | int]) -> Pin:
    return Pin(
        attachment_uid=str(value["attachmentUID"]),
        pod_uid=str(value["podUID"]),
        epoch=int(value["epoch"]),
        link=LinkRef(str(value["link"]), int(value["linkIndex"])),
        hardware_address=str(value["hardwareAddress"]),
    )
