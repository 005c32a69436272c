"""
`persistip doctor`: what stands in our way, and what is to be done about it?

In: a cluster, or with --node the machine this runs on.  Out: findings, each with the thing and the fix.  Exit status 0
when there is no problem (there may be warnings), 1 when there is one, 2 when nothing could be looked at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Annotated

import attrs
from cyclopts import App, Parameter

from persistip.cli import given
from persistip.cli.live import ask, open_console
from persistip.doctor.cluster import judge_cluster
from persistip.doctor.finding import Finding, has_problems
from persistip.doctor.node import judge_node
from persistip.errors import BackendError, ConfigError
from persistip.model.views import Policy
from persistip.settings import ClusterSettings

app = App(name="doctor", help="Say what stands in the way, on a node or in a cluster, and what to do about it.")


@app.default
def doctor(
    *,
    node: Annotated[bool, Parameter(negative=())] = False,
    uplinks: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative=())] = (),
    as_json: Annotated[bool, Parameter(name="--json", negative=())] = False,
    api: given.Api = None,
    policy: given.Settings = None,
) -> None:
    """
    Say what stands in the way, in a cluster or on this node, and what to do about it. Nothing is changed.

    Parameters
    ----------
    node
        Look at the node in whose network this runs, and at the rights of this process, instead of at a cluster.
    uplinks
        The node's links to the network, by name; those of the default routes by default.
    as_json
        Print the findings as JSON.
    """
    try:
        _check_meant(is_node=node, is_cluster=api is not None or policy is not None, has_uplinks=bool(uplinks))
        found = _of_node(uplinks) if node else _of_cluster(api or ClusterSettings(), policy or Policy())
    except ConfigError as error:
        given.refuse(error)
    _print(found, as_json=as_json)
    sys.exit(given.EXIT_STRICT if has_problems(found) else given.EXIT_DONE)


def _check_meant(*, is_node: bool, is_cluster: bool, has_uplinks: bool) -> None:
    """Raise ConfigError where an option would mean nothing."""
    if is_node and is_cluster:
        message = (
            "--node looks at this machine, and at no cluster: leave out --kubeconfig, --context and --policy, or --node"
        )
        raise ConfigError(message)
    if has_uplinks and not is_node:
        raise ConfigError("--uplinks are links of a node: give --node too, or leave them out")


def _of_node(uplinks: tuple[str, ...]) -> Sequence[Finding]:
    from persistip.doctor.look_at_node import look_at_node  # noqa: PLC0415 - what looks at a cluster needs no netlink

    try:
        return judge_node(look_at_node(uplinks))
    except BackendError as error:
        message = f"the kernel does not let this process look: {error}"
        raise ConfigError(message) from error


def _of_cluster(api: ClusterSettings, policy: Policy) -> Sequence[Finding]:
    async def look() -> Sequence[Finding]:
        async with open_console(api) as console:
            from persistip.doctor.look_at_cluster import look_at_cluster  # noqa: PLC0415 - after its extra was asked for

            return judge_cluster(await look_at_cluster(console, policy))

    return ask(look())


def _print(found: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"findings": [attrs.asdict(each) for each in found]}, indent=2))
        return
    if not found:
        print("Nothing stands in the way.")
    for each in found:
        print(f"{each.severity}: {each.subject}\n    {each.message}\n    do: {each.fix}")
