"""
Which calls may be made now?

In: what stands in the project, what one route is to have there.  Out: steps that wait for nothing but what stands
already, and what is in the way. After them it is asked again, until there are none.

    create   groups, endpoints, firewall ──> service with its leader ──> a rule for each address
    move     PATCH of the leader, before everything else; its node is attached in advance where that could be known
    delete   rules ──> service ──> groups, firewall, addresses that we reserved

What differs from what is wanted is repaired by PATCH; where the service takes none, by deleting and making anew, in the
same order. Whatever does not carry the mark of this very route is never part of a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network, ip_network
from typing import Any

import attrs

from persistip.backends.gce.resources import Body, Instance, Owner, Resource, Service, last, partial
from persistip.model.address import Prefix
from persistip.model.conditions import Reason

V6_LENGTH = 96
"""The cloud gives IPv6 addresses in pieces of this length, and one rule is for one piece."""
EVERYWHERE = {4: ("0.0.0.0/0",), 6: ("::/0",)}


@attrs.frozen(kw_only=True)
class Target:
    """What one route is to have; ``nodes`` are kept attached, ``leader`` among them."""

    route: str
    leader: str
    prefixes: tuple[Prefix, ...]
    nodes: tuple[str, ...] = ()
    external: bool = True
    fast: bool = False
    global_access: bool = False

    @property
    def attached(self) -> tuple[str, ...]:
        """Every node that is to be an endpoint."""
        return tuple(sorted({self.leader, *self.nodes}))


@attrs.frozen(kw_only=True)
class Seen:
    """
    What is known of a project: ``resources`` under names of ours, the ``endpoints`` of groups by instance name.

    ``addresses``: reserved ones by their value, None: there is none with it. ``instances``: None: there is none.
    ``delegated``: the public delegated prefixes, by name.
    """

    resources: Mapping[Resource, Body] = attrs.field(factory=dict)
    endpoints: Mapping[Resource, frozenset[str]] = attrs.field(factory=dict)
    instances: Mapping[str, Instance | None] = attrs.field(factory=dict)
    addresses: Mapping[str, Body | None] = attrs.field(factory=dict)


@attrs.frozen
class Insert:
    """Make it."""

    resource: Resource
    body: Body = attrs.field(hash=False)


@attrs.frozen
class Patch:
    """Change these fields; a fingerprint in them is the one that was seen."""

    resource: Resource
    body: Body = attrs.field(hash=False)
    is_move: bool = False


@attrs.frozen
class Delete:
    """Take it away."""

    resource: Resource


@attrs.frozen
class Attach:
    """Add endpoints to a group."""

    resource: Resource
    instances: tuple[str, ...]


@attrs.frozen
class Detach:
    """Take endpoints out of a group."""

    resource: Resource
    instances: tuple[str, ...]


Step = Insert | Patch | Delete | Attach | Detach


@attrs.frozen
class Obstacle:
    """What is in the way, in the words of ``GCPReady``; an empty reason: it goes by itself."""

    reason: str
    message: str


@attrs.frozen(kw_only=True)
class Plan:
    """``steps`` may be made at once; ``housekeeping`` when nothing else is to do, and nobody waits for it."""

    steps: tuple[Step, ...] = ()
    housekeeping: tuple[Step, ...] = ()
    obstacles: tuple[Obstacle, ...] = ()


def singles(prefixes: Iterable[Prefix]) -> tuple[Prefix, ...]:
    """The pieces for each of which the cloud has one rule: IPv4 addresses, IPv6 prefixes as they are."""
    return tuple(
        single
        for prefix in prefixes
        for single in (prefix.subnets(new_prefix=32) if isinstance(prefix, IPv4Network) else (prefix,))
    )


def value_of(single: Prefix) -> str:
    """As a reserved address has it."""
    return str(single.network_address)


@attrs.frozen(kw_only=True)
class Planner:
    """The rules, for one cluster in one region of one project; ``sources``: who may reach internal addresses."""

    owner: Owner
    project: str
    region: str
    sources: tuple[str, ...] = ()

    # ------------------------------------------------------------ names
    @property
    def _scope(self) -> str:
        return f"regions/{self.region}"

    def service_of(self, route: str) -> Resource:
        """The backend service of a route."""
        return Resource(Service.SERVICES, self._scope, self.owner.name(route))

    def rule_of(self, route: str, single: Prefix) -> Resource:
        """The forwarding rule of a route for one address."""
        return Resource(Service.RULES, self._scope, self.owner.name(route, value_of(single), value_of(single)))

    def group_of(self, route: str, instance: Instance) -> Resource:
        """The group that an instance is an endpoint of, for a route: of its zone and subnetwork."""
        place = partial(instance.subnetwork)
        return Resource(
            Service.GROUPS, f"zones/{instance.zone}", self.owner.name(route, f"at {place}", last(instance.subnetwork))
        )

    # ------------------------------------------------------------ what stands
    def owned(self, seen: Seen, route: str) -> dict[Resource, Body]:
        """Everything with the mark of this route, under a name of ours."""
        return {each: body for each, body in seen.resources.items() if self.owner.route_of(body) == route}

    def routes(self, seen: Seen) -> frozenset[str]:
        """Every route of the cluster for which anything stands."""
        found = (self.owner.route_of(body) for body in seen.resources.values())
        return frozenset(route for route in found if route is not None)

    def leader(self, seen: Seen, route: str) -> str | None:
        """The node to which the service of a route sends, whether any rule leads to it or not."""
        body = seen.resources.get(self.service_of(route))
        return (_leader(body) or ("", None))[1] if body is not None and self.owner.route_of(body) == route else None

    def served(self, seen: Seen, route: str) -> frozenset[str]:
        """The addresses that lead to the service of a route."""
        service = self.service_of(route).url(self.project)
        return frozenset(
            str(body.get("IPAddress", "")).partition("/")[0]
            for each, body in self.owned(seen, route).items()
            if each.service is Service.RULES and _same(body.get("backendService"), service)
        )

    # ------------------------------------------------------------ plans
    def withdraw(self, seen: Seen, route: str) -> Plan:
        """What to take away next of all that a route has."""
        owned = self.owned(seen, route)
        for stage in ((Service.RULES,), (Service.SERVICES,), (Service.GROUPS, Service.FIREWALLS, Service.ADDRESSES)):
            if steps := tuple(Delete(each) for each in sorted(owned) if each.service in stage):
                return Plan(steps=steps)
        return Plan()

    def attract(self, seen: Seen, target: Target) -> Plan:
        """What to do next for a route that is to have what *target* says."""
        machine = seen.instances.get(target.leader)
        if machine is None:
            said = f"there is no instance {target.leader} in project {self.project}"
            return Plan(obstacles=(Obstacle(Reason.CLOUD_ERROR, said),))
        if foreign := tuple(self._foreign(seen, target)):
            return Plan(obstacles=foreign)
        usable, obstacles = self._judge(seen, target)
        if move := self._move(seen, target, machine):
            return Plan(steps=(move,), obstacles=obstacles)
        groups = tuple(self._groups(seen, target))
        stages = (
            (*groups, *self._firewalls(seen, target, usable, machine)),
            tuple(self._service(seen, target, machine)),
            tuple(self._rules(seen, target, usable, machine)),
        )
        steps = next((stage for stage in stages if stage), ())
        return Plan(steps=steps, housekeeping=tuple(self._idle(seen, target)), obstacles=obstacles)

    def _wanted_groups(self, seen: Seen, target: Target) -> dict[Resource, list[Instance]]:
        groups: dict[Resource, list[Instance]] = {}
        for name in target.attached:
            if (instance := seen.instances.get(name)) is not None:
                groups.setdefault(self.group_of(target.route, instance), []).append(instance)
        return groups

    def _foreign(self, seen: Seen, target: Target) -> Iterator[Obstacle]:
        """What stands under a name of ours without our mark is not touched."""
        names = [self.service_of(target.route), *self._wanted_groups(seen, target)]
        names += [self.rule_of(target.route, single) for single in singles(target.prefixes)]
        names += [self._firewall_of(target.route, family) for family in (4, 6)]
        for name in names:
            body = seen.resources.get(name)
            if body is not None and self.owner.route_of(body) != target.route:
                yield Obstacle(Reason.CLOUD_ERROR, f"{name} is there and does not carry the mark of this route")

    def _judge(self, seen: Seen, target: Target) -> tuple[list[Prefix], tuple[Obstacle, ...]]:
        """The addresses that can be used, and why the others cannot."""
        usable: list[Prefix] = []
        obstacles: list[Obstacle] = []
        for single in singles(target.prefixes):
            if found := self._address_obstacle(seen, target, single):
                obstacles.append(found)
            else:
                usable.append(single)
        return usable, tuple(obstacles)

    def _address_obstacle(self, seen: Seen, target: Target, single: Prefix) -> Obstacle | None:
        value = value_of(single)
        if single.version == 6 and single.prefixlen != V6_LENGTH:
            return _unusable(f"{single}: the cloud forwards IPv6 by whole /{V6_LENGTH} prefixes; claim one")
        body = seen.addresses.get(value)
        if body is None:
            return _unusable(f"{value} is not reserved in region {self.region} of project {self.project}")
        wanted = "EXTERNAL" if target.external else "INTERNAL"
        if body.get("addressType", "EXTERNAL") != wanted:
            kind, other = ("external", "internal") if target.external else ("internal", "external")
            return _unusable(f"{value} ({body.get('name')}) is {other}, and the class is for {kind} addresses")
        others = [last(user) for user in body.get("users", ()) if last(user) != self.rule_of(target.route, single).name]
        if ours := [user for user in others if user.startswith(self.owner.prefix)]:
            return Obstacle("", f"{value} is still used by {', '.join(ours)}, which is being taken away")
        if others:
            return _unusable(f"{value} ({body.get('name')}) is used by {', '.join(others)}, which is not ours")
        return None

    # ------------------------------------------------------------ the parts
    def _move(self, seen: Seen, target: Target, machine: Instance) -> Patch | None:
        """The one call on which traffic waits: the leader, where its node is an endpoint already."""
        service, group = self.service_of(target.route), self.group_of(target.route, machine)
        body = seen.resources.get(service)
        if body is None or self._must_be_made_anew(body, target, machine):
            return None
        is_attached = machine.name in seen.endpoints.get(group, ()) and _has_backend(body, group, self.project)
        if _leads_to(body, group, machine, self.project) or not is_attached:
            return None
        policy = {"haPolicy": {"leader": self._leader_body(group, machine)}}
        return Patch(service, {"fingerprint": body.get("fingerprint", ""), **policy}, is_move=True)

    def _groups(self, seen: Seen, target: Target) -> Iterator[Step]:
        for group, instances in sorted(self._wanted_groups(seen, target).items(), key=lambda each: each[0]):
            if group not in seen.resources:
                body = {
                    "networkEndpointType": "GCE_VM_IP",
                    "network": instances[0].network,
                    "subnetwork": instances[0].subnetwork,
                }
                yield Insert(group, self._named(group, target.route, body))
                continue
            attached = seen.endpoints.get(group, frozenset())
            if missing := tuple(each.name for each in instances if each.name not in attached):
                yield Attach(group, missing)

    def _firewall_of(self, route: str, family: int) -> Resource:
        return Resource(Service.FIREWALLS, "global", self.owner.name(route, f"v{family}", f"v{family}"))

    def _firewalls(self, seen: Seen, target: Target, usable: Iterable[Prefix], machine: Instance) -> Iterator[Step]:
        for family in (4, 6):
            firewall = self._firewall_of(target.route, family)
            present = seen.resources.get(firewall)
            towards = sorted(str(single) for single in usable if single.version == family)
            sources = [each for each in self.sources if ip_network(each).version == family]
            if target.external:
                sources = list(EVERYWHERE[family])
            if not towards or not sources:
                if present is not None:
                    yield Delete(firewall)
                continue
            body: dict[str, Any] = {
                "direction": "INGRESS",
                "allowed": [{"IPProtocol": "all"}],
                "sourceRanges": sources,
                "destinationRanges": towards,
            }
            if present is None:
                yield Insert(firewall, self._named(firewall, target.route, {**body, "network": machine.network}))
            elif not _same(present.get("network"), machine.network):
                yield Delete(firewall)
            elif changed := _difference(present, body):
                # The description of the method asks for the name in every request.
                yield Patch(firewall, {"name": firewall.name, **changed})

    def _service(self, seen: Seen, target: Target, machine: Instance) -> Iterator[Step]:
        service = self.service_of(target.route)
        present = seen.resources.get(service)
        groups = [each for each in self._wanted_groups(seen, target) if each in seen.resources]
        if present is None:
            yield Insert(service, self._named(service, target.route, self._service_body(target, machine, groups)))
            return
        if self._must_be_made_anew(present, target, machine):
            rules = tuple(self._owned_rules(seen, target.route))
            yield from (Delete(rule) for rule in rules)
            if not rules:
                yield Delete(service)
            return
        backends = [
            *({"group": backend["group"]} for backend in present.get("backends", ())),
            *(
                {"group": group.url(self.project)}
                for group in sorted(groups)
                if not _has_backend(present, group, self.project)
            ),
        ]
        changed: dict[str, Any] = {}
        if len(backends) != len(present.get("backends", ())):
            changed["backends"] = backends
        group = self.group_of(target.route, machine)
        if not _leads_to(present, group, machine, self.project):
            changed["haPolicy"] = {"leader": self._leader_body(group, machine)}
        if changed:
            yield Patch(
                service, {"fingerprint": present.get("fingerprint", ""), **changed}, is_move="haPolicy" in changed
            )

    def _service_body(self, target: Target, machine: Instance, groups: Iterable[Resource]) -> dict[str, Any]:
        leader = self._leader_body(self.group_of(target.route, machine), machine)
        body = {
            "loadBalancingScheme": "EXTERNAL" if target.external else "INTERNAL",
            "protocol": "UNSPECIFIED",
            "connectionDraining": {"drainingTimeoutSec": 0},
            "haPolicy": {"fastIPMove": "GARP_RA" if target.fast else "DISABLED", "leader": leader},
            "backends": [{"group": group.url(self.project)} for group in sorted(groups)],
        }
        return body | ({"network": machine.network} if target.fast or not target.external else {})

    def _leader_body(self, group: Resource, machine: Instance) -> dict[str, Any]:
        return {"backendGroup": group.url(self.project), "networkEndpoint": {"instance": machine.name}}

    def _must_be_made_anew(self, present: Body, target: Target, machine: Instance) -> bool:
        """Whether a service differs in what the cloud never changes."""
        wanted = self._service_body(target, machine, ())
        fixed = {name: wanted.get(name) for name in ("loadBalancingScheme", "protocol", "network")}
        fixed["haPolicy"] = {"fastIPMove": wanted["haPolicy"]["fastIPMove"]}
        return bool(_difference(present, fixed))

    def _owned_rules(self, seen: Seen, route: str) -> list[Resource]:
        return sorted(each for each in self.owned(seen, route) if each.service is Service.RULES)

    def _rules(self, seen: Seen, target: Target, usable: Iterable[Prefix], machine: Instance) -> Iterator[Step]:
        wanted = {self.rule_of(target.route, single) for single in singles(target.prefixes)}
        for single in usable:
            rule = self.rule_of(target.route, single)
            body = self._rule_body(target, single, seen.addresses[value_of(single)] or {}, machine)
            present = seen.resources.get(rule)
            if present is None:
                yield Insert(rule, self._named(rule, target.route, body))
            elif changed := _difference(present, body):
                if changed.keys() <= {"allowGlobalAccess"}:
                    yield Patch(rule, {"fingerprint": present.get("fingerprint", ""), **changed})
                else:
                    yield Delete(rule)
        for rule in self._owned_rules(seen, target.route):
            if rule not in wanted:
                yield Delete(rule)

    def _rule_body(self, target: Target, single: Prefix, address: Body, machine: Instance) -> dict[str, Any]:
        body: dict[str, Any] = {
            "IPAddress": value_of(single) if single.version == 4 else str(single),
            "IPProtocol": "L3_DEFAULT",
            "allPorts": True,
            "loadBalancingScheme": "EXTERNAL" if target.external else "INTERNAL",
            "backendService": self.service_of(target.route).url(self.project),
        }
        if single.version == 6:
            body["ipVersion"] = "IPV6"
        if target.external:
            body["networkTier"] = address.get("networkTier", "PREMIUM")
        else:
            body |= {"network": machine.network, "allowGlobalAccess": target.global_access}
        if not target.external or single.version == 6:
            body["subnetwork"] = address.get("subnetwork") or machine.subnetwork
        return body

    def _idle(self, seen: Seen, target: Target) -> Iterator[Step]:
        """Endpoints that nobody needs any more; the leader is never one."""
        leader = self.leader(seen, target.route)
        for group in sorted(each for each in self.owned(seen, target.route) if each.service is Service.GROUPS):
            idle = seen.endpoints.get(group, frozenset()) - {*target.attached, leader or ""}
            if idle:
                yield Detach(group, tuple(sorted(idle)))

    def _named(self, resource: Resource, route: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"name": resource.name, "description": self.owner.mark(route), **body}


def _unusable(message: str) -> Obstacle:
    return Obstacle(Reason.ADDRESS_NOT_USABLE, message)


def _leader(body: Body) -> tuple[str, str] | None:
    """Group and instance name of a service's leader."""
    leader = body.get("haPolicy", {}).get("leader", {})
    instance = leader.get("networkEndpoint", {}).get("instance", "")
    return (leader.get("backendGroup", ""), last(instance)) if instance else None


def _leads_to(body: Body, group: Resource, machine: Instance, project: str) -> bool:
    leader = _leader(body)
    return leader is not None and _same(leader[0], group.url(project)) and leader[1] == machine.name


def _has_backend(body: Body, group: Resource, project: str) -> bool:
    return any(_same(backend.get("group"), group.url(project)) for backend in body.get("backends", ()))


def _difference(present: Body, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Those fields of *wanted* that *present* does not have so; fields that we do not set are not looked at."""
    return {name: value for name, value in wanted.items() if not _same(present.get(name), value)}


def _same(present: Any, wanted: Any) -> bool:
    """Whether two values mean the same: links by their end, ranges by their network, absent as false or empty."""
    match wanted:
        case Mapping():
            return isinstance(present, Mapping) and not _difference(present, wanted)
        case list() | tuple():
            if present is None or len(present) != len(wanted):
                return False
            if all(isinstance(each, str) for each in (*present, *wanted)):
                return sorted(map(_plain, present)) == sorted(map(_plain, wanted))
            return all(_same(one, other) for one, other in zip(present, wanted, strict=True))
        case str():
            return isinstance(present, str) and _plain(present) == _plain(wanted)
        case _:
            return (present or None) == (wanted or None)


def _plain(text: str) -> str:
    """A value of which there is one for each meaning."""
    if "projects/" in text:
        return partial(text)
    try:
        return str(ip_network(text))
    except ValueError:
        return text
