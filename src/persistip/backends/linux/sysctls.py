"""
Which kernel settings does delivery need, and which had to be changed?

In: names and values.  Out: what was changed, with the value before.
Only raised to what delivery cannot do without, never put back: something else may rely on them by then. A setting
that already has the value is not written, so a read-only /proc/sys of a prepared node is no failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs

from persistip.backends.linux.errors import error_from_os

ROOT = Path("/proc/sys")
"""Where the kernel shows its settings. A container may only read them there, and write where the node's are mounted."""


@attrs.frozen
class Setting:
    """One kernel setting, by its path below /proc/sys, and the value wanted."""

    path: str
    value: str


@attrs.frozen
class Changed:
    """A setting that was changed, and what it was before."""

    path: str
    before: str
    after: str


def read_setting(path: str) -> str | None:
    """The value, None where this kernel or this link has no such setting."""
    try:
        return (ROOT / path).read_text().strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise error_from_os(error, "read", path) from error


def ensure_settings(settings: Iterable[Setting], root: Path = ROOT) -> list[Changed]:
    """
    Bring each setting to its value, written below *root*; those already there are left alone.

    Raises by the table of ``errors.py`` where one cannot be written.
    """
    changed = []
    for setting in settings:
        before = read_setting(setting.path)
        if before is None or before == setting.value:
            continue
        try:
            (root / setting.path).write_text(setting.value)
        except OSError as error:
            raise error_from_os(error, "write", setting.path) from error
        changed.append(Changed(setting.path, before, setting.value))
    return changed


def forwarding_ipv4(link_names: Iterable[str]) -> list[Setting]:
    """Forward IPv4: the switch for all, and links that were taken out of it."""
    return [
        Setting("net/ipv4/ip_forward", "1"),
        *(Setting(f"net/ipv4/conf/{name}/forwarding", "1") for name in link_names),
    ]


def forwarding_ipv6(uplink_names: Iterable[str]) -> list[Setting]:
    """
    Forward IPv6.

    A forwarding host stops listening to router advertisements, and would lose a default route that it has from them:
    uplinks that listen (1) are told to go on (2) first.
    """
    keep = [f"net/ipv6/conf/{name}/accept_ra" for name in uplink_names]
    return [
        *(Setting(path, "2") for path in keep if read_setting(path) == "1"),
        Setting("net/ipv6/conf/all/forwarding", "1"),
    ]


def answering(uplink: str, version: int) -> list[Setting]:
    """Answer for proxied addresses on *uplink*, at once: by default the kernel waits up to 0.8 s before it does."""
    if version == 4:
        return [Setting("net/ipv4/ip_forward", "1"), Setting(f"net/ipv4/neigh/{uplink}/proxy_delay", "0")]
    return [
        Setting(f"net/ipv6/conf/{uplink}/proxy_ndp", "1"),
        Setting(f"net/ipv6/neigh/{uplink}/proxy_delay", "0"),
    ]


def is_set(settings: Iterable[Setting]) -> bool:
    """Whether every one of them that exists has its value."""
    return all(read_setting(setting.path) in (setting.value, None) for setting in settings)
