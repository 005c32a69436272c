"""
Which values may a setting have?

In: a bound, and the name of the group that the setting is in.  Out: a validator for attrs, which names the setting as
people write it and says what would do. Every setting is checked where it is held, so that a library user and a command
line get the same sentence.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

from persistip.errors import ConfigError

Check = Callable[[Any, "attrs.Attribute[Any]", float], None]


def at_least(least: float, group: str = "") -> Check:
    """No less than that; *group* is where the setting is found among all."""
    return _check(lambda value: value >= least, f"it must be at least {least:g}", group)


def above(bound: float, group: str = "") -> Check:
    """More than that; *group* is where the setting is found among all."""
    return _check(lambda value: value > bound, f"it must be more than {bound:g}", group)


def _check(is_right: Callable[[float], bool], rule: str, group: str) -> Check:
    def check(_: object, attribute: attrs.Attribute[Any], value: float) -> None:
        # No comparison is true of what is not a number, and what never ends is no time at all.
        if not is_right(value) or math.isinf(value):
            name = f"{group}.{attribute.name}" if group else attribute.name
            raise ConfigError(f"setting {name} is {value:g}; {rule}{', and finite' if math.isinf(value) else ''}")

    return check
