"""What others write on Pods and Nodes: kept only where somebody reads it."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import pytest
from controlplane import ControlPlane

from persistip.backends.apiserver import ApiServerCluster, find_access
from persistip.model.keys import Kind, ObjectKey
from persistip.model.node import Node
from persistip.runtime.clock import SystemClock
from persistip.strategies import Batch

pytestmark = [pytest.mark.requires("apiserver"), pytest.mark.asyncio]

NAME = "annotated-by-others"
PATH = "/api/v1/nodes"
READ = {"networking.gke.io/networks": "[]", "acme.example/warm": "yes"}
WRITTEN = {**READ, "other.example/long": "x" * 1000}


async def annotations(batches: AsyncIterator[Batch], key: str = "") -> dict[str, str]:
    """Those of the Node as soon as it is delivered with *key* among them."""
    async with asyncio.timeout(60):
        async for batch in batches:
            found = batch.objects.get(ObjectKey(Kind.NODE, "", NAME))
            if isinstance(found, Node) and (not key or key in found.meta.annotations):
                return dict(found.meta.annotations)
    raise AssertionError("a cluster's changes never end by themselves")


@pytest.mark.parametrize(("asked", "kept"), [(["acme.example/warm"], READ), (None, WRITTEN)])
async def test_annotations_come_as_asked_by_list_and_by_watch(
    control_plane: ControlPlane, asked: list[str] | None, kept: dict[str, str]
) -> None:
    """Those that rules read and those asked for are delivered; without a word about it, all."""
    body: dict[str, Any] = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NAME, "annotations": WRITTEN}}
    control_plane.must("POST", PATH, body)
    try:
        load = find_access(str(control_plane.kubeconfig), "", os.environ)
        async with (
            ApiServerCluster(load, SystemClock(), annotations=asked) as cluster,
            aclosing(
                cluster.changes()  # type: ignore[type-var]
            ) as batches,
        ):
            assert await annotations(batches) == kept
            later = {"metadata": {"annotations": {"persistip.dev/later": "1", "other.example/later": "1"}}}
            change = "application/merge-patch+json"
            await asyncio.to_thread(control_plane.must, "PATCH", f"{PATH}/{NAME}", later, content_type=change)
            others = {} if asked else {"other.example/later": "1"}
            assert await annotations(batches, "persistip.dev/later") == {**kept, "persistip.dev/later": "1", **others}
    finally:
        control_plane.must("DELETE", f"{PATH}/{NAME}")
