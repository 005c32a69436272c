"""Does each thing that a kubeconfig may say of server and user reach the server, and is what cannot be used told?"""

import asyncio
import base64
import json
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web
from certificates import Authority

from persistip.backends.apiserver import Load, find_access
from persistip.backends.apiserver.client import Client
from persistip.errors import ConfigError, UnavailableError

pytestmark = pytest.mark.asyncio

LOOPBACK = "127.0.0.1"
SERVER_NAME = "inside.example"
VERSION = "client.authentication.k8s.io/v1"
PLUGIN = """
import json, pathlib, sys
status = json.loads(pathlib.Path(sys.argv[1]).read_text())
print(json.dumps({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}))
"""


@attrs.frozen
class Site:
    """A server that says who asked, its certificate for 127.0.0.1 and one more name, and a folder with files."""

    port: int
    names: list[str | None]
    folder: Path

    def load(self, user: Any, **cluster: Any) -> Load:
        """Return the access of a kubeconfig with this user, and these fields of the cluster instead of the usual."""
        usual = {"server": f"https://{LOOPBACK}:{self.port}", "certificate-authority": str(self.folder / "ca.pem")}
        fields = {name: value for name, value in {**usual, **cluster}.items() if value is not None}
        path = self.folder / "kubeconfig"
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": fields}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "me"}}],
            "users": [{"name": "me", "user": user}],
            "current-context": "c",
        }
        path.write_text(json.dumps(content))
        return find_access(str(path), "", {})


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """Give a server that asks for the client's certificate, and takes who has none."""
    authority = Authority()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    for name, issued in (
        ("server", authority.issue("server", hosts=(LOOPBACK, SERVER_NAME))),
        ("client", authority.issue("alice")),
    ):
        (tmp_path / f"{name}.pem").write_bytes(issued[0])
        (tmp_path / f"{name}.key").write_bytes(issued[1])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.pem"))
    context.verify_mode = ssl.CERT_OPTIONAL
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    names: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)

    async def answer(request: web.Request) -> web.Response:
        assert request.transport is not None
        shown = request.transport.get_extra_info("peercert") or {}
        subject = dict(pair for pairs in shown.get("subject", ()) for pair in pairs)
        headers = [[name, value] for name, value in request.headers.items() if name.startswith(("Auth", "Imp"))]
        return web.json_response({"certificate": subject.get("commonName"), "headers": headers})

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    listening = web.TCPSite(runner, LOOPBACK, 0, ssl_context=context)
    await listening.start()
    try:
        yield Site(runner.addresses[0][1], names, tmp_path)
    finally:
        await runner.cleanup()


@asynccontextmanager
async def proxying(asked: list[Mapping[str, str]]) -> AsyncIterator[int]:
    """Run a proxy for the time of the block; what it is asked is put in *asked*; its port."""
    tasks: set[asyncio.Task[Any]] = set()

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        first, *rest = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        asked.append({"": first, **dict(line.split(": ", 1) for line in rest)})
        host, port = first.split()[1].split(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(copy(reader, far_writer), copy(far_reader, writer))

    server = await asyncio.start_server(serve, LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.wait(tasks, timeout=5)


async def ask(load: Load) -> Any:
    """Return what the server saw of a request."""
    async with Client(load, user_agent="tests") as client:
        return json.loads(await client.request("GET", "/"))


def data(path: Path) -> str:
    """Return the file as a kubeconfig holds it."""
    return base64.b64encode(path.read_bytes()).decode()


def plugin(folder: Path, status: Mapping[str, str]) -> dict[str, Any]:
    """Return a user whose exec plugin gives *status*."""
    (folder / "plugin.py").write_text(PLUGIN)
    (folder / "status").write_text(json.dumps(status))
    args = [str(folder / "plugin.py"), str(folder / "status")]
    return {"exec": {"apiVersion": VERSION, "interactiveMode": "Never", "command": sys.executable, "args": args}}


def user_of(way: str, folder: Path) -> dict[str, Any]:
    """Return the user alice, who proves it in that *way*."""
    certificate, key = folder / "client.pem", folder / "client.key"
    match way:
        case "files":
            return {"client-certificate": str(certificate), "client-key": str(key)}
        case "files beside the kubeconfig":
            return {"client-certificate": certificate.name, "client-key": key.name}
        case "data":
            return {"client-certificate-data": data(certificate), "client-key-data": data(key)}
        case _:
            return plugin(folder, {"clientCertificateData": certificate.read_text(), "clientKeyData": key.read_text()})


@pytest.mark.parametrize("way", ["files", "files beside the kubeconfig", "data", "plugin"])
async def test_client_certificate_is_shown_to_the_server(way: str, site: Site) -> None:
    """Whichever way the kubeconfig gives certificate and key, the server sees whose they are, and no token."""
    assert await ask(site.load(user_of(way, site.folder))) == {"certificate": "alice", "headers": []}


@pytest.mark.parametrize(
    ("cluster", "named"),
    [
        ({"tls-server-name": SERVER_NAME}, SERVER_NAME),
        ({"certificate-authority": None, "insecure-skip-tls-verify": True}, None),
    ],
    ids=["tls-server-name", "insecure-skip-tls-verify"],
)
async def test_servers_name_and_trust_are_as_the_cluster_has_them(
    cluster: Mapping[str, Any], named: str | None, site: Site
) -> None:
    """The name that is asked for is the given one, else none for an IP; an unknown authority passes where it may."""
    found = await ask(site.load({"token": "abc"}, **cluster))
    assert found["headers"] == [["Authorization", "Bearer abc"]]
    assert site.names == [named]


@pytest.mark.parametrize(
    "cluster", [{"tls-server-name": "other.example"}, {"certificate-authority": None}], ids=["name", "authority"]
)
async def test_server_that_cannot_be_trusted_is_told_nothing(cluster: Mapping[str, Any], site: Site) -> None:
    """Another name than the certificate's, or an authority that nobody named, ends the request."""
    with pytest.raises(UnavailableError, match="is not trusted"):
        await ask(site.load({"token": "abc"}, **cluster))


@pytest.mark.parametrize("cluster", [{}, {"tls-server-name": SERVER_NAME}], ids=["address", "tls-server-name"])
async def test_proxy_is_asked_and_hears_nothing_of_the_request(cluster: Mapping[str, Any], site: Site) -> None:
    """Through a proxy the certificate is still ours and the server's, and the proxy's own password is told to it."""
    asked: list[Mapping[str, str]] = []
    async with proxying(asked) as port:
        user = {**user_of("files", site.folder), "token": "abc"}
        found = await ask(site.load(user, **cluster, **{"proxy-url": f"http://us:them@{LOOPBACK}:{port}"}))
    assert found == {"certificate": "alice", "headers": [["Authorization", "Bearer abc"]]}
    assert site.names == [cluster.get("tls-server-name")]
    (seen,) = asked
    assert seen[""] == f"CONNECT {LOOPBACK}:{site.port} HTTP/1.1"
    assert seen["Proxy-Authorization"] == f"Basic {base64.b64encode(b'us:them').decode()}"
    assert "Authorization" not in seen


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "proxy.example:3128"])
async def test_proxy_of_another_kind_is_refused(proxy: str, site: Site) -> None:
    """What is no HTTP proxy is told to be none, with how to write one."""
    with pytest.raises(ConfigError, match=f"proxy-url '{proxy}' .* write http://HOST:PORT"):
        await site.load({"token": "abc"}, **{"proxy-url": proxy})()


# ---------------------------------------------------------------- tokens
@pytest.mark.parametrize("way", ["tokenFile", "token", "plugin"])
async def test_token_that_ends_with_a_new_line_is_sent_without_it(way: str, site: Site) -> None:
    """Editors and `echo` end a file with a new line, which is no part of the token."""
    (site.folder / "token").write_text("abc\n")
    users = {"tokenFile": {"tokenFile": "token"}, "token": {"token": "abc\n"}}
    found = await ask(site.load(users.get(way) or plugin(site.folder, {"token": "abc\n"})))
    assert found["headers"] == [["Authorization", "Bearer abc"]]


@pytest.mark.parametrize(
    ("content", "fault"),
    [("ab\ncd\n", "characters that no token has"), ("ab\x00", "characters that no token has"), ("", "an empty token")],
)
async def test_token_that_is_none_names_its_source(content: str, fault: str, site: Site) -> None:
    """A file with two lines, with a control character, or with nothing, is named, with the user and what to do."""
    (site.folder / "token").write_text(content)
    with pytest.raises(ConfigError) as caught:
        await site.load({"tokenFile": str(site.folder / "token")})()
    assert str(caught.value) == (
        f"kubeconfig {site.folder}/kubeconfig: user 'me': tokenFile {site.folder}/token gives "
        f"{'a token with ' if content else ''}{fault}; write the token alone into it"
    )


@pytest.mark.parametrize("user", [{"token": "a\x07"}, "plugin"], ids=["token", "plugin"])
async def test_token_that_is_none_and_in_no_file_names_its_source(user: Any, site: Site) -> None:
    """The same, of a token in the kubeconfig itself, and of one that a program gives."""
    found = plugin(site.folder, {"token": "a\x07"}) if user == "plugin" else user
    source = f"exec plugin {sys.executable!r}" if user == "plugin" else "token"
    with pytest.raises(ConfigError, match=f"user 'me': {source} gives a token with characters that no token has"):
        await site.load(found)()


# ---------------------------------------------------------------- exec plugins
async def test_exec_plugin_that_is_not_there_is_named(site: Site) -> None:
    """No request is made without the credentials that were meant: the command, the reason and the fix are told."""
    user = {"exec": {"apiVersion": VERSION, "command": "no-such-plugin"}}
    with pytest.raises(ConfigError) as caught:
        await site.load(user)()
    said = str(caught.value)
    assert "user 'me': exec plugin 'no-such-plugin' gave no credentials (" in said
    assert "No such file or directory" in said
    assert said.endswith("; install it, or run it by hand to see what it lacks")


async def test_exec_plugin_that_is_not_there_says_how_to_get_it(site: Site) -> None:
    """Who wrote the kubeconfig may have said how to install the command, and that is passed on in one line."""
    user = {"exec": {"apiVersion": VERSION, "command": "no-such-plugin", "installHint": "Install it\nwith care.\n"}}
    with pytest.raises(ConfigError, match=r"; Install it with care\.$"):
        await site.load(user)()


async def test_exec_plugin_that_fails_is_named_with_what_it_said(site: Site) -> None:
    """A program that ends with an error, or answers without credentials, is told by its own words."""
    script = "import sys; sys.exit('not logged in')"
    failing = {"exec": {"apiVersion": VERSION, "command": sys.executable, "args": ["-c", script]}}
    with pytest.raises(ConfigError, match=r"gave no credentials .*not logged in"):
        await site.load(failing)()
    with pytest.raises(ConfigError, match=r"gave no credentials .*missing token"):
        await site.load(plugin(site.folder, {}))()


# ---------------------------------------------------------------- acting as somebody else
async def test_user_that_acts_as_another_says_so_in_each_request(site: Site) -> None:
    """Name, UID, groups and extra fields go in kubectl's headers; what a header's name cannot have is in percents."""
    user = {
        "token": "abc",
        "as": "bob",
        "as-uid": "17",
        "as-groups": ["dev", "ops"],
        "as-user-extra": {"scopes": ["view", "edit"], "example.org/Reason 100%": ["drill"]},
    }
    found = await ask(site.load(user))
    assert sorted(found["headers"]) == [
        ["Authorization", "Bearer abc"],
        ["Impersonate-Extra-example.org%2FReason%20100%25", "drill"],
        ["Impersonate-Extra-scopes", "edit"],
        ["Impersonate-Extra-scopes", "view"],
        ["Impersonate-Group", "dev"],
        ["Impersonate-Group", "ops"],
        ["Impersonate-Uid", "17"],
        ["Impersonate-User", "bob"],
    ]


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"as-groups": ["ops"]}, "name it with as$"),
        ({"as": "bob", "as-groups": "ops"}, "as-groups is a list"),
        ({"as": "bob", "as-user-extra": {"scopes": "view"}}, "has a list"),
        ({"as": "bob\r\nX: y"}, "cannot be sent as Impersonate-User"),
    ],
    ids=["nobody", "groups", "extra", "two-lines"],
)
async def test_user_that_acts_as_nobody_known_is_refused(fields: Mapping[str, Any], fault: str, site: Site) -> None:
    """Fields that cannot be sent as they are meant name the user and what to write; none is dropped."""
    with pytest.raises(ConfigError, match=f"user 'me': .*{fault}"):
        await site.load({"token": "abc", **fields})()
