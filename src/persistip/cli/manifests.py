"""
`persistip manifests`: what is to be applied to a cluster?

In: parameters.  Out: YAML for `kubectl apply -f -`.  Exit status 0; 2 for parameters that cannot work.
"""

from __future__ import annotations

import sys
from typing import Annotated

from cyclopts import App, Parameter

from persistip.cli import given
from persistip.errors import ConfigError
from persistip.manifests import Parameters, render

app = App(name="manifests", help="Print what a cluster needs, for `kubectl apply -f -`.")


@app.default
def print_manifests(parameters: Annotated[Parameters | None, Parameter(name="*")] = None) -> None:
    """
    Print CRDs, classes, rights, policies, the controller and the agents as one YAML stream.

    The CRDs of Gateway API must be in the cluster already.
    """
    try:
        sys.stdout.write(render(parameters or Parameters()))
    except ConfigError as error:
        given.refuse(error)
