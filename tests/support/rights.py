"""
What do manifests of RBAC let a ServiceAccount do, and was it done?

In: Roles and bindings; an audit log.  Out: rights, and those that a request has used. Everything that narrows or widens
a right counts: the namespace of a Role, ``resourceNames``, and each subject of a binding, whatever its kind.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from audit import permission


class Right(NamedTuple):
    """To do one thing to a kind of object, in a namespace and under a name; empty: in any, under any."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""

    def allows(self, asked: "Right") -> bool:
        """Whether a request that asks for that needs no other right than this."""
        if self.namespace not in ("", asked.namespace) or self.name not in ("", asked.name):
            return False
        pairs = zip(self[:3], asked[:3], strict=True)
        return all(given in ("*", wanted) for given, wanted in pairs)


def granted(objects: Sequence[Mapping[str, Any]], namespace: str, account: str) -> set[Right]:
    """Return what *objects* allow a ServiceAccount; every role that is bound to it has to be among them."""
    roles = {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in objects}
    found: set[Right] = set()
    for each in objects:
        if each["kind"] not in ("RoleBinding", "ClusterRoleBinding") or not _is_bound(each, namespace, account):
            continue
        where = each["metadata"].get("namespace", "")
        kind, name = each["roleRef"]["kind"], each["roleRef"]["name"]
        role = roles[kind, where if kind == "Role" else "", name]
        found |= {right._replace(namespace=where) for rule in role["rules"] for right in _rights(rule)}
    return found


def _is_bound(binding: Mapping[str, Any], namespace: str, account: str) -> bool:
    user = f"system:serviceaccount:{namespace}:{account}"
    groups = {"system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"}
    return any(
        (each["kind"], each.get("namespace"), each["name"]) == ("ServiceAccount", namespace, account)
        or (each["kind"], each["name"]) == ("User", user)
        or (each["kind"] == "Group" and each["name"] in groups)
        for each in binding.get("subjects", ())
    )


def _rights(rule: Mapping[str, Any]) -> Iterable[Right]:
    for verb in rule["verbs"]:
        for url in rule.get("nonResourceURLs", ()):
            yield Right(verb, "", url)
        for group in rule.get("apiGroups", ()):
            for resource in rule.get("resources", ()):
                for name in rule.get("resourceNames", ("",)):
                    yield Right(verb, group, resource, "", name)


def asked(event: Mapping[str, Any]) -> Right:
    """Return the right that a request of an audit log asked for."""
    what = event.get("objectRef") or {}
    return Right(*permission(event), what.get("namespace", ""), what.get("name", ""))
