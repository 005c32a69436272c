"""
Where are we, and as whom?

In: settings.  Out: project, region and cluster, and credentials. What no setting names is asked of the metadata server
of the machine, as Google's own libraries do; with neither, the start fails and says which setting is missing.
"""

from __future__ import annotations

import http.client
from collections.abc import Callable
from typing import Any

import attrs
import google.auth
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError

from persistip.errors import ConfigError
from persistip.settings import GceSettings

METADATA = "169.254.169.254"
SECONDS = 3.0
SCOPES = ("https://www.googleapis.com/auth/compute",)


@attrs.frozen(kw_only=True)
class Location:
    """Where the resources are, and which cluster's they are."""

    project: str
    region: str
    cluster: str


def ask_metadata(path: str) -> str:
    """What the metadata server says; empty where there is none, or where it does not know."""
    connection = http.client.HTTPConnection(METADATA, timeout=SECONDS)
    try:
        connection.request("GET", f"/computeMetadata/v1/{path}", headers={"Metadata-Flavor": "Google"})
        answer = connection.getresponse()
        return answer.read().decode().strip() if answer.status == http.client.OK else ""
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()


def find_location(settings: GceSettings, ask: Callable[[str], str] = ask_metadata) -> Location:
    """What settings say, else what the metadata server says; raises ConfigError."""
    project = settings.project or ask("project/project-id")
    region = settings.region
    if not region and (zone := ask("instance/zone")):
        region = zone.rpartition("/")[2].rpartition("-")[0]
    cluster = settings.cluster_id or ask("instance/attributes/cluster-uid")
    for name, value in (("project", project), ("region", region), ("cluster_id", cluster)):
        if not value:
            raise ConfigError(f"setting gce.{name} is empty, and no metadata server tells it; name it")
    return Location(project=project, region=region, cluster=cluster)


def find_credentials(settings: GceSettings) -> Any:
    """
    Application Default Credentials; with an endpoint over plain HTTP, none at all.

    A token of Google's must not travel unencrypted, and what answers there is an emulator, which asks for none.
    """
    if settings.endpoint.startswith("http://"):
        return AnonymousCredentials()
    try:
        credentials, _ = google.auth.default(scopes=SCOPES)
    except GoogleAuthError as error:
        raise ConfigError(f"no credentials for Compute Engine: {error}") from error
    return credentials
