"""
Where is the API server, and who are we to it?

In: a kubeconfig, or what every Pod is given.  Out: an ``Access``: address, TLS, a token that is never old.

    kubeconfig   read by the official client: contexts, certificates, tokens, exec plugins, identity providers
    in a Pod     the service account's files, read here

The official client is loaded for a kubeconfig alone. It brings its models along, some 30 MB and most of a second, and
an agent, which runs in a Pod, has to start at once on every node and stay small.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs

from persistip.errors import ConfigError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"


@attrs.frozen(kw_only=True)
class Access:
    """
    One way to the API server.

    ``authorization`` gives the header's value for the next request, empty where a certificate says who we are; ``ssl``
    None: no TLS. ``server_name`` is the name in the server's certificate where it is not the one in ``server``.
    """

    server: str
    ssl: ssl.SSLContext | None = None
    authorization: Callable[[], str] = attrs.field(default=lambda: "")
    server_name: str | None = None
    proxy: str | None = None


Load = Callable[[], Awaitable[Access]]
"""Reads an Access anew: files change, tokens end."""


def find_access(kubeconfig: str, context: str, environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT) -> Load:
    """
    The way to the API server that is meant.

    A kubeconfig or a context that is named; else the Pod's service account; else what kubectl would use.
    Raises ConfigError where there is none of them.
    """
    if not kubeconfig and not context and environ.get(_HOST):
        return lambda: _from_pod(environ, folder)
    path = kubeconfig or environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())
    if not any(Path(part).expanduser().exists() for part in path.split(os.pathsep) if part):
        message = f"no kubeconfig at {path}, and this is no Pod; name one with --kubeconfig or KUBECONFIG"
        raise ConfigError(message)
    return lambda: _from_kubeconfig(path, context)


class _TokenFile:
    """A service account's token, which the kubelet replaces in time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._value = ""

    def authorization(self) -> str:
        """The header; the file is read again whenever it is another."""
        try:
            found = self._path.stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp != self._stamp:
                self._value = f"Bearer {self._path.read_text(encoding='ascii').strip()}"
                self._stamp = stamp
        except OSError:
            # Between two tokens: the former one holds for some minutes more, and the server says if not.
            pass
        return self._value


async def _from_pod(environ: Mapping[str, str], folder: Path) -> Access:
    token, authority = folder / "token", folder / "ca.crt"
    for path in (token, authority):
        if not path.is_file():
            message = f"{_HOST} is set, but no {path}: the Pod needs automountServiceAccountToken"
            raise ConfigError(message)
    host, port = environ[_HOST], environ.get(_PORT) or "443"
    return Access(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ssl=_tls(cafile=str(authority)),
        authorization=_TokenFile(token).authorization,
    )


async def _from_kubeconfig(path: str, context: str) -> Access:
    # It takes most of a second: everything else on this loop must not wait for it.
    config, configuration, not_yaml = await asyncio.to_thread(_official_client)
    found: Any = configuration()
    try:
        await config.load_kube_config(path, context or None, found, persist_config=False)
        return _access_of(found, path)
    except config.ConfigException as error:
        raise ConfigError(_why_unusable(config, path, context) or f"kubeconfig {path}: {error}") from error
    except not_yaml as error:
        message = f"kubeconfig {path} is no YAML: {' '.join(str(error).split())}"
        raise ConfigError(message) from error
    except OSError as error:
        message = f"kubeconfig {path}: {error.strerror or error}; a file that it names, or the file itself, is no good"
        raise ConfigError(message) from error
    except (TypeError, AttributeError, LookupError, ValueError) as error:
        # The client takes the file's form for granted, and stumbles in many ways over another.
        message = (
            f"kubeconfig {path} has not the form of one ({error}); `kubectl config view --minify` must show a context, "
            "its cluster and its user"
        )
        raise ConfigError(message) from error


def _access_of(found: Any, path: str) -> Access:
    """What the official client has read, as ours."""
    if not _is_address(found.host):
        message = f"kubeconfig {path}: server {found.host!r} is no address of a cluster; write it as https://HOST:PORT"
        raise ConfigError(message)
    header = found.api_key.get("BearerToken", "")
    return Access(
        server=found.host.rstrip("/"),
        ssl=_tls_of(found) if found.host.startswith("https:") else None,
        authorization=lambda: header,
        server_name=found.tls_server_name or None,
        proxy=found.proxy or None,
    )


def _is_address(server: str) -> bool:
    try:
        found = urlsplit(server)
        return found.scheme in {"http", "https"} and bool(found.hostname) and found.port != 0
    except ValueError:  # a port beyond all ports, an IPv6 address without its brackets
        return False


def _why_unusable(config: Any, path: str, context: str) -> str | None:
    """What is wrong with the choice of a context, in a sentence; None: something else is wrong."""
    try:
        contexts, current = config.list_kube_config_contexts(path)
    except config.ConfigException:
        return None
    names = sorted(each["name"] for each in contexts)
    if context and context not in names:
        return f"there is no context {context!r} in kubeconfig {path}; there are: {', '.join(names) or 'none'}"
    return f"kubeconfig {path} has no current context; name one with --context" if current is None else None


def _official_client() -> tuple[Any, Any, type[Exception]]:
    from kubernetes.aio import config  # noqa: PLC0415 - heavy, and not needed in a Pod
    from kubernetes.aio.client import Configuration  # noqa: PLC0415
    from yaml import YAMLError  # noqa: PLC0415

    return config, Configuration, YAMLError


def _tls_of(configuration: Any) -> ssl.SSLContext:
    found = _tls(cafile=configuration.ssl_ca_cert or None)
    if configuration.cert_file:
        found.load_cert_chain(configuration.cert_file, configuration.key_file)
    if not configuration.verify_ssl:
        found.check_hostname = False
        found.verify_mode = ssl.CERT_NONE
    return found


def _tls(cafile: str | None) -> ssl.SSLContext:
    found = ssl.create_default_context(cafile=cafile)
    # Cluster authorities are made by many tools, and not all write what Python 3.13 asks for beyond the standard.
    found.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return found
