"""Does a process answer those who watch it, and nobody keep another out?"""

import asyncio
import os
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from certificates import Authority

from persistip.errors import ConfigError
from persistip.runtime import endpoint
from persistip.runtime.endpoint import MAX_CONNECTIONS, Answer, Certificate, Endpoint, parse_address, verdict

LIMIT_SECONDS = 20
HERE = "127.0.0.1:0"


async def ask(port: int, request: str, **options: object) -> tuple[str, str]:
    """Return head and body of the answer to *request*."""
    async with asyncio.timeout(LIMIT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)  # type: ignore[arg-type]
        writer.write(request.encode())
        text = (await reader.read()).decode()
        writer.close()
    head, _, body = text.partition("\r\n\r\n")
    return head, body


def get(path: str, method: str = "GET") -> str:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n"


def broken() -> Answer:
    raise ZeroDivisionError("nought")


PAGES: dict[str, Callable[[], Answer]] = {
    "/well": lambda: verdict(None),
    "/ill": lambda: verdict("a loop has ended"),
    "/broken": broken,
}


@pytest.mark.parametrize(
    ("request_", "status", "body"),
    [
        (get("/well"), "200 OK", "ok\n"),
        (get("/well?verbose"), "200 OK", "ok\n"),
        (get("/ill"), "503 Service Unavailable", "a loop has ended\n"),
        (get("/well", "HEAD"), "200 OK", ""),
        (get("/other"), "404 Not Found", "there is /well, /ill, /broken\n"),
        (get("/well", "POST"), "405 Method Not Allowed", "GET and HEAD only\n"),
        ("hello\r\n\r\n", "400 Bad Request", "this is HTTP/1.1\n"),
        (get("/" + "x" * 9000), "431 Request Header Fields Too Large", "too long\n"),
    ],
)
async def test_request_has_its_answer(request_: str, status: str, body: str) -> None:
    """Pages answer for themselves; what asks for anything else is told so."""
    async with Endpoint(HERE, PAGES) as served:
        head, said = await ask(served.port, request_)
    assert head.startswith(f"HTTP/1.1 {status}\r\n")
    assert said == body


async def test_fault_in_a_page_is_told_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A page of ours that fails is 500 and in the log, and the next request is answered."""
    async with Endpoint(HERE, PAGES) as served:
        assert (await ask(served.port, get("/broken")))[0].startswith("HTTP/1.1 500 ")
        assert (await ask(served.port, get("/well")))[0].startswith("HTTP/1.1 200 ")
    assert [record.getMessage() for record in caplog.records] == ["a fault of ours in a page"]


async def test_idle_connections_keep_no_probe_out() -> None:
    """More connections than may be open, all silent: a probe is answered at once."""
    async with Endpoint(HERE, PAGES) as served:
        opened = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(MAX_CONNECTIONS + 8)]
        assert (await ask(served.port, get("/well")))[1] == "ok\n"
        for _, writer in opened:
            writer.close()


async def test_connection_that_says_nothing_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever does not ask in time is cut off."""
    monkeypatch.setattr(endpoint, "MAX_SECONDS", 0.05)
    async with Endpoint(HERE, PAGES) as served, asyncio.timeout(LIMIT_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /well HT")
        said = b""
        with suppress(ConnectionError):
            said = await reader.read()
        assert said == b""
        writer.close()


async def test_blocked_loop_does_not_answer() -> None:
    """The endpoint lives on the loop it speaks for: while that is stuck, a probe runs into its own time limit."""
    async with Endpoint(HERE, PAGES) as served:
        program = (
            "import sys, socket\n"
            f"s = socket.create_connection(('127.0.0.1', {served.port}), 0.5)\n"
            "s.sendall(b'GET /well HTTP/1.1\\r\\n\\r\\n')\n"
            "try: print(s.recv(9))\n"
            "except TimeoutError: print('late')\n"
        )
        import subprocess  # noqa: PLC0415 - on purpose the kind that blocks the loop
        import sys  # noqa: PLC0415

        done = subprocess.run(  # noqa: ASYNC221
            [sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_SECONDS, check=True
        )
        assert done.stdout.strip() == "late"
        assert (await ask(served.port, get("/well")))[1] == "ok\n"


async def test_port_in_use_is_a_setting_that_cannot_work() -> None:
    """Two processes at one address: the second says so and ends as for any wrong setting."""
    async with Endpoint(HERE, PAGES) as served:
        with pytest.raises(ConfigError, match="cannot listen"):
            await Endpoint(f"127.0.0.1:{served.port}", PAGES).__aenter__()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8080", (None, 8080)),
        ("192.0.2.1:1", ("192.0.2.1", 1)),
        ("[192.0.2.1]:1", ("192.0.2.1", 1)),
        ("[2001:db8::1]:8081", ("2001:db8::1", 8081)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_address_is_understood(text: str, address: tuple[str | None, int]) -> None:
    """A host or none, in brackets or not, and a port."""
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["8080", "a:", "a:b", "a:65536", "2001:db8::1:80", "a:-1", "a:٣"])
def test_address_that_is_none_is_refused(text: str) -> None:
    """What could be understood in two ways, or in none, is refused with the forms that there are."""
    with pytest.raises(ConfigError, match=r"write host:port"):
        parse_address(text)


# ---------------------------------------------------------------- TLS


def put_certificate(authority: Authority, folder: Path) -> Certificate:
    """Write a certificate of *authority* into *folder*, in the place of the one there."""
    chain, key = authority.issue("endpoint", hosts=["127.0.0.1"])
    for name, content in (("tls.crt", chain), ("tls.key", key)):
        path = folder / name
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.write_bytes(content)
        os.utime(path, ns=(before + 10**9, before + 10**9))
    return Certificate(str(folder / "tls.crt"), str(folder / "tls.key"))


def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=authority.pem.decode())


async def test_answers_behind_tls(tmp_path: Path) -> None:
    """With a certificate whoever trusts its authority is answered, and who speaks plainly is not."""
    authority = Authority()
    async with Endpoint(HERE, PAGES, certificate=put_certificate(authority, tmp_path)) as served:
        assert (await ask(served.port, get("/well"), ssl=trusting(authority)))[1] == "ok\n"
        assert await ask(served.port, get("/well")) == ("", "")


async def test_renewed_certificate_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """New files serve new connections without a restart."""
    monkeypatch.setattr(endpoint, "_RENEW_SECONDS", 0.01)
    old, new = Authority("old"), Authority("new")
    async with Endpoint(HERE, PAGES, certificate=put_certificate(old, tmp_path)) as served:
        assert (await ask(served.port, get("/well"), ssl=trusting(old)))[1] == "ok\n"
        put_certificate(new, tmp_path)
        async with asyncio.timeout(LIMIT_SECONDS):
            while True:
                try:
                    assert (await ask(served.port, get("/well"), ssl=trusting(new)))[1] == "ok\n"
                    break
                except ssl.SSLError:
                    await asyncio.sleep(0.01)


async def test_certificate_that_is_none_is_refused_at_the_start(tmp_path: Path) -> None:
    """Files that are not there, or hold something else, are a setting that cannot work."""
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_text("nonsense")
    for folder in (tmp_path, tmp_path / "nowhere"):
        certificate = Certificate(str(folder / "tls.crt"), str(folder / "tls.key"))
        with pytest.raises(ConfigError, match="cannot use the certificate"):
            await Endpoint(HERE, PAGES, certificate=certificate).__aenter__()
