"""
Where does a packet for an address go?

In: the project as it stands, and the frames that instances have sent.  Out: the instances that would get the packet.
Tests assert on this, not on calls.

A frame moves every address of its backend service for about 20 minutes, and outranks the leader that the API names
for as long. Two senders within three seconds: packets go to either, until one sends alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address, ip_network

import attrs

from persistip.strategies import Clock
from persistip.testing.compute_engine.addresses import plain
from persistip.testing.compute_engine.backend_services import endpoints_of, is_fast, leader_of
from persistip.testing.compute_engine.frames import read_frame
from persistip.testing.compute_engine.kinds import Body
from persistip.testing.compute_engine.links import Link
from persistip.testing.compute_engine.state import State

ACTIVE_SECONDS = 20 * 60
RACE_SECONDS = 3


@attrs.frozen
class Claim:
    """That an instance has said it has the addresses of a service, and when last."""

    instance: str
    at: float


class DataPlane:
    """The packets' side of a project."""

    def __init__(self, state: State, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._claims: dict[str, dict[str, Claim]] = {}

    # ------------------------------------------------------------ frames
    def garp(self, instance: str, address: str) -> bool:
        """
        An instance sends a gratuitous ARP reply for an IPv4 address; returns whether it moves anything.

        It does where a rule for the address leads to a service with fast IP move and the instance is an endpoint of it.
        """
        if ip_address(plain(address)).version != 4:
            raise ValueError(f"{address} is moved by a router advertisement")
        return self._claim(instance, address)

    def router_advertisement(self, instance: str, address: str) -> bool:
        """The same for an IPv6 address; instances of the third generation and later cannot."""
        if ip_address(plain(address)).version != 6:
            raise ValueError(f"{address} is moved by a gratuitous ARP")
        return not self._is_third_generation(instance) and self._claim(instance, address)

    def frame(self, instance: str, frame: bytes) -> bool:
        """A frame leaves an instance's first interface; returns whether it moves anything."""
        announced = read_frame(frame)
        if announced is None or announced.sender != self._nic(instance).get("mac", announced.sender):
            return False
        if isinstance(announced.address, IPv6Address):
            return self.router_advertisement(instance, str(announced.address))
        return self.garp(instance, str(announced.address))

    def _claim(self, instance: str, address: str) -> bool:
        url = self._url(instance)
        for _, rule in self._rules(address):
            service_url = rule.get("backendService", "")
            service = self._state.find(service_url)
            if service is None or not is_fast(service) or url not in self._endpoints(service):
                continue
            self._claims.setdefault(service_url, {})[url] = Claim(url, self._clock.now())
            return True
        return False

    # ------------------------------------------------------------ packets
    def holder(self, address: str, *, protocol: str = "TCP", port: int = 80) -> frozenset[str]:
        """
        The names of the instances that would get a packet for an address; empty: it is lost.

        Of several rules the most particular counts: one of the very protocol before L3_DEFAULT.
        """
        rules = [rule for _, rule in self._rules(address) if _matches(rule, protocol, port)]
        rules.sort(key=lambda rule: rule["IPProtocol"] == "L3_DEFAULT")
        return (
            frozenset(self._name(url) for url in self._receivers(rules[0]) if self._runs(url)) if rules else frozenset()
        )

    def _receivers(self, rule: Body) -> set[str]:
        target = self._state.find(rule.get("target", ""))
        if target is not None:
            return {target["instance"]}
        url = rule.get("backendService", "")
        service = self._state.find(url)
        if service is None:
            return set()
        if "haPolicy" not in service:
            return self._balanced(service)
        if claimed := self._claimed(url, service):
            return claimed
        leader = leader_of(service)
        return {leader[1]} if leader and leader[1] in self._endpoints(service) else set()

    def _claimed(self, url: str, service: Body) -> set[str]:
        now = self._clock.now()
        active = [
            claim
            for claim in self._claims.get(url, {}).values()
            if now - claim.at < ACTIVE_SECONDS and claim.instance in self._endpoints(service)
        ]
        latest = max((claim.at for claim in active), default=0.0)
        return {claim.instance for claim in active if latest - claim.at < RACE_SECONDS}

    def _balanced(self, service: Body) -> set[str]:
        """The healthy ones; with none, every one, unless that is ruled out."""
        endpoints = endpoints_of(self._state, service)
        standby = {backend["group"] for backend in service.get("backends", ()) if backend.get("failover")}
        groups = (
            {url for group, urls in endpoints.items() if (group in standby) == last for url in urls}
            for last in (False, True)
        )
        for group in groups:
            if healthy := {url for url in group if self._state.is_healthy(url) and self._runs(url)}:
                return healthy
        if standby and service.get("failoverPolicy", {}).get("dropTrafficIfUnhealthy"):
            return set()
        return {url for group, urls in endpoints.items() if group not in standby for url in urls}

    # ------------------------------------------------------------ look-ups
    def _rules(self, address: str) -> list[tuple[Link, Body]]:
        wanted = ip_address(plain(address))
        if wanted.version == 4:
            return list(self._state.rules_at(str(wanted)))
        rules = self._state.all_of("forwardingRules")
        return [(link, rule) for link, rule in rules if wanted in ip_network(rule["IPAddress"])]

    def _endpoints(self, service: Body) -> set[str]:
        return {url for urls in endpoints_of(self._state, service).values() for url in urls}

    def _url(self, instance: str) -> str:
        for link, _ in self._state.all_of("instances"):
            if link.name == instance:
                return link.url
        raise KeyError(f"no instance {instance}")

    def _nic(self, instance: str) -> Mapping[str, str]:
        body = self._state.find(self._url(instance)) or {}
        nic: Mapping[str, str] = body["networkInterfaces"][0]
        return nic

    def _name(self, url: str) -> str:
        return url.rpartition("/")[2]

    def _runs(self, url: str) -> bool:
        return (self._state.find(url) or {}).get("status") == "RUNNING"

    def _is_third_generation(self, instance: str) -> bool:
        return bool((self._state.find(self._url(instance)) or {}).get("_third_generation"))


def _matches(rule: Body, protocol: str, port: int) -> bool:
    if rule["IPProtocol"] == "L3_DEFAULT":
        return True
    if rule["IPProtocol"] != protocol:
        return False
    ranges = list(rule.get("ports", ())) or ([rule["portRange"]] if "portRange" in rule else ["0-65535"])
    return any(int(text.partition("-")[0]) <= port <= int(text.rpartition("-")[2]) for text in ranges)
