"""
What do the lists of a controller's start cost through the official client's models?

In: a kubeconfig.  Out: "listed", once everything that the controller lists is in memory as the client gives it: models
for Kubernetes' own kinds, dictionaries for the others. Pages as the controller's, since without them it is worse.
"""

import sys
from collections.abc import Callable
from typing import Any

from kubernetes import client, config

PAGE = 500
CUSTOM = (
    ("gateway.networking.k8s.io", "v1", ("gatewayclasses", "gateways")),
    ("networking.gke.io", "v1", ("gkeiproutes", "networks", "gkenetworkparamsets")),
    ("persistip.dev", "v1alpha1", ("addressattachments",)),
)


def listed(ask: Callable[..., Any], items: Callable[[Any], Any], token: Callable[[Any], str | None]) -> list[Any]:
    """All of a kind."""
    found: list[Any] = []
    more: str | None = ""
    while more is not None:
        page = ask(limit=PAGE, **({"_continue": more} if more else {}))
        found += items(page)
        more = token(page) or None
    return found


def main() -> None:
    """List, say so, and stay until standard input ends."""
    config.load_kube_config(sys.argv[1])
    core, definitions, networks = client.CoreV1Api(), client.ApiextensionsV1Api(), client.NetworkingV1Api()
    custom = client.CustomObjectsApi()
    asked = (
        core.list_pod_for_all_namespaces,
        core.list_node,
        core.list_namespace,
        core.list_config_map_for_all_namespaces,
        core.list_service_for_all_namespaces,
        networks.list_service_cidr,
        definitions.list_custom_resource_definition,
    )
    kept = [listed(each, lambda page: page.items, lambda page: page.metadata._continue) for each in asked]  # noqa: SLF001
    for group, version, plurals in CUSTOM:
        for plural in plurals:

            def ask(group: str = group, version: str = version, plural: str = plural, **more: Any) -> Any:
                return custom.list_cluster_custom_object(group, version, plural, **more)

            kept.append(listed(ask, lambda page: page["items"], lambda page: page["metadata"].get("continue")))
    print(f"listed {sum(map(len, kept))}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
