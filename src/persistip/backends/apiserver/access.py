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
import logging
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import attrs

from persistip.errors import ConfigError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_HOST, _PORT = "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"
_OFFICIAL_LOADER = "kubernetes.aio.config.kube_config"
# Beside letters and digits, what the name of a header may have (RFC 9110, 5.6.2); `%` begins what stands for the rest.
_NAME_MARKS = "!#$&'*+-.^_`|~"


@attrs.frozen(kw_only=True)
class Access:
    """
    One way to the API server.

    ``authorization`` gives the header's value for the next request, empty where a certificate says who we are; ``ssl``
    None: no TLS. ``server_name`` is the name in the server's certificate where it is not the one in ``server``.
    ``impersonation``: the headers that say as whom we act, where that is somebody else.
    """

    server: str
    ssl: ssl.SSLContext | None = None
    authorization: Callable[[], str] = attrs.field(default=lambda: "")
    server_name: str | None = None
    proxy: str | None = None
    impersonation: tuple[tuple[str, str], ...] = ()


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
    official = await asyncio.to_thread(_official_client)
    try:
        merged = official.merge(path).config
        loader = official.loader(merged, active_context=context or None, config_base_path=None)
        found: Any = official.configuration()
        with _Complaints() as said:
            await loader.load_and_set(found)
        return _access_of(found, _user_of(merged, loader, path), said, path)
    except official.refused as error:
        raise ConfigError(_why_unusable(official, path, context) or f"kubeconfig {path}: {error}") from error
    except official.not_yaml as error:
        message = f"kubeconfig {path} is no YAML: {_one_line(error)}"
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


@attrs.frozen
class _User:
    """The user of the chosen context: *where* it is, for messages, and what the kubeconfig says of it."""

    where: str
    entry: Mapping[str, Any]


def _user_of(merged: Any, loader: Any, path: str) -> _User:
    name = loader.current_context["context"].get("user")
    found = merged["users"].get_with_name(name, safe=True)
    return _User(f"kubeconfig {path}: user {name!r}", found.value["user"] if found else {})


def _access_of(found: Any, user: _User, said: Iterable[str], path: str) -> Access:
    """What the official client has read, as ours; *said* is what it had to complain of."""
    if not _is_address(found.host):
        message = f"kubeconfig {path}: server {found.host!r} is no address of a cluster; write it as https://HOST:PORT"
        raise ConfigError(message)
    if found.proxy and not _is_address(found.proxy):
        message = f"kubeconfig {path}: proxy-url {found.proxy!r} is no proxy that can be used; write http://HOST:PORT"
        raise ConfigError(message)
    header = _authorization(found, user)
    if "exec" in user.entry and not header and not found.cert_file:
        raise ConfigError(_why_no_credentials(user, said))
    return Access(
        server=found.host.rstrip("/"),
        ssl=_tls_of(found) if found.host.startswith("https:") else None,
        authorization=lambda: header,
        server_name=found.tls_server_name or None,
        proxy=found.proxy or None,
        impersonation=tuple(_impersonation(user)),
    )


def _authorization(found: Any, user: _User) -> str:
    """The header; a file that holds a token ends with a new line as often as not."""
    scheme, _, given = found.api_key.get("BearerToken", "").partition(" ")
    token = given.strip()
    if token and token.isascii() and token.isprintable():
        return f"{scheme} {token}"
    if "exec" in user.entry:
        source, fix = f"exec plugin {_command(user)!r}", "run it by hand to see what it gives"
    elif user.entry.get("tokenFile") and not user.entry.get("token"):
        source, fix = f"tokenFile {user.entry['tokenFile']}", "write the token alone into it"
    else:
        source, fix = "token", "write the token alone there"
    if token:
        message = f"{user.where}: {source} gives a token with characters that no token has; {fix}"
        raise ConfigError(message)
    if scheme or user.entry.get("tokenFile"):
        message = f"{user.where}: {source} gives an empty token; {fix}"
        raise ConfigError(message)
    return ""


def _why_no_credentials(user: _User, said: Iterable[str]) -> str:
    """Without credentials every request would be anonymous, and refused for a reason that leads nowhere."""
    hint = _one_line(user.entry["exec"].get("installHint") or "install it, or run it by hand to see what it lacks")
    reasons = "; ".join(said)
    return f"{user.where}: exec plugin {_command(user)!r} gave no credentials ({reasons}); {hint}"


def _command(user: _User) -> str:
    return str(user.entry["exec"].get("command", ""))


def _impersonation(user: _User) -> Iterator[tuple[str, str]]:
    """The headers that kubectl sends for ``as`` and what belongs to it."""
    entry = user.entry
    name, uid = entry.get("as") or "", entry.get("as-uid") or ""
    groups, extra = entry.get("as-groups") or [], entry.get("as-user-extra") or {}
    if not name and (uid or groups or extra):
        raise ConfigError(f"{user.where}: as-uid, as-groups and as-user-extra need a user; name it with as")
    if not (isinstance(groups, list) and isinstance(extra, dict) and all(isinstance(v, list) for v in extra.values())):
        raise ConfigError(f"{user.where}: as-groups is a list, and each key of as-user-extra has a list; write them so")
    headers = [("Impersonate-User", name), ("Impersonate-Uid", uid)]
    headers += [("Impersonate-Group", group) for group in groups]
    for key, values in extra.items():
        headers += [(f"Impersonate-Extra-{quote(str(key), safe=_NAME_MARKS)}", value) for value in values]
    for header, value in headers:
        text = str(value)
        if any(ord(character) < ord(" ") or character == "\x7f" for character in text):
            raise ConfigError(f"{user.where}: {text!r} cannot be sent as {header}; write it in one line")
        if text:
            yield header, text


class _Complaints(logging.Handler):
    """What the official client says of exec plugins, which it tells the log alone and takes for no failure."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def __enter__(self) -> list[str]:
        logging.getLogger(_OFFICIAL_LOADER).addHandler(self)
        return self.said

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_OFFICIAL_LOADER).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep it."""
        self.said.append(_one_line(record.getMessage()))


def _one_line(text: object) -> str:
    return " ".join(str(text).split())


def _is_address(server: str) -> bool:
    try:
        found = urlsplit(server)
        return found.scheme in {"http", "https"} and bool(found.hostname) and found.port != 0
    except ValueError:  # a port beyond all ports, an IPv6 address without its brackets
        return False


def _why_unusable(official: _Official, path: str, context: str) -> str | None:
    """What is wrong with the choice of a context, in a sentence; None: something else is wrong."""
    try:
        contexts, current = official.list_contexts(path)
    except official.refused:
        return None
    names = sorted(each["name"] for each in contexts)
    if context and context not in names:
        return f"there is no context {context!r} in kubeconfig {path}; there are: {', '.join(names) or 'none'}"
    return f"kubeconfig {path} has no current context; name one with --context" if current is None else None


@attrs.frozen(kw_only=True)
class _Official:
    """What we use of the official client, which has no types."""

    merge: Callable[[str], Any]
    loader: Callable[..., Any]
    configuration: Callable[[], Any]
    list_contexts: Callable[[str], Any]
    refused: type[Exception]
    not_yaml: type[Exception]


def _official_client() -> _Official:
    from kubernetes.aio.client import Configuration  # noqa: PLC0415 - heavy, and not needed in a Pod
    from kubernetes.aio.config import ConfigException, kube_config  # noqa: PLC0415
    from yaml import YAMLError  # noqa: PLC0415

    return _Official(
        merge=kube_config.KubeConfigMerger,
        loader=kube_config.KubeConfigLoader,
        configuration=Configuration,
        list_contexts=kube_config.list_kube_config_contexts,
        refused=ConfigException,
        not_yaml=YAMLError,
    )


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
