"""
Is this what Google says that its API looks like?

In: requests to Compute Engine and their answers.  Out: every fault of either, by the discovery document that
google-api-python-client ships. The emulator is not made from it, so neither is judged by itself. It knows shapes, not
meaning: what goes together, and what may be changed, is the emulator's business.

    client ──> JudgingProxy ──> emulator
                   └── Judge: every request, every answer; a fault of either fails the test
"""

import functools
import http.client
import json
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import compute_needed  # noqa: F401 - before the packages that may be missing
import googleapiclient
import jsonschema
from jsonschema.protocols import Validator

DOCUMENT = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents" / "compute.v1.json"
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "int64": {"pattern": r"^-?[0-9]{1,19}$"},
    "uint64": {"pattern": r"^[0-9]{1,20}$"},
    "int32": {"minimum": -(2**31), "maximum": 2**31 - 1},
    "uint32": {"minimum": 0, "maximum": 2**32 - 1},
    "byte": {"pattern": r"^[A-Za-z0-9+/_-]*={0,2}$"},
}
PLAIN = frozenset({"string", "boolean", "integer", "number"})
ERROR_SCHEMA = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "errors"],
            "additionalProperties": False,
            "properties": {
                "code": {"type": "integer"},
                "message": {"type": "string"},
                "status": {"type": "string"},
                "details": {"type": "array", "items": {"type": "object", "required": ["@type"]}},
                "errors": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["message", "domain", "reason"],
                        "additionalProperties": False,
                        "properties": {
                            name: {"type": "string"}
                            for name in ("message", "domain", "reason", "location", "locationType")
                        },
                    },
                },
            },
        }
    },
}
"""The one envelope of errors, which the discovery document leaves out."""


@functools.cache
def document() -> Mapping[str, Any]:
    """Return the discovery document."""
    read: Mapping[str, Any] = json.loads(DOCUMENT.read_text())
    return read


def convert(schema: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return a schema of the discovery document as JSON Schema, for the requests of *method*; "" for answers."""
    if "$ref" in schema:
        return {"$ref": f"#/$defs/{schema['$ref']}"}
    kind = schema.get("type", "any")
    if kind == "any":
        return {}
    if kind == "array":
        return {"type": "array", "items": convert(schema["items"], method)}
    if kind == "object":
        return convert_object(schema, method)
    assert kind in PLAIN, kind
    made: dict[str, Any] = {"type": kind, **FORMATS.get(schema.get("format", ""), {})}
    if "pattern" in schema:
        # Theirs are meant to match the whole value.
        made["pattern"] = f"^(?:{schema['pattern']})$"
    if "enum" in schema:
        made["enum"] = schema["enum"]
    for bound in ("minimum", "maximum"):
        if bound in schema:
            made[bound] = float(schema[bound])
    return made


def convert_object(schema: Mapping[str, Any], method: str) -> dict[str, Any]:
    """Return an object's schema; what is not named in it is a fault, unless it says how others look."""
    properties = schema.get("properties", {})
    made: dict[str, Any] = {
        "type": "object",
        "properties": {name: convert(each, method) for name, each in properties.items()},
        "additionalProperties": convert(schema["additionalProperties"], method)
        if "additionalProperties" in schema
        else False,
    }
    if required := [
        name for name, each in properties.items() if method in each.get("annotations", {}).get("required", ())
    ]:
        made["required"] = required
    return made


def reachable(name: str) -> Iterator[str]:
    """Yield the schema of that name and all that it refers to."""
    waiting, seen = [name], set()
    while waiting:
        if (each := waiting.pop()) not in seen:
            seen.add(each)
            yield each
            waiting += re.findall(r'"\$ref": "(\w+)"', json.dumps(document()["schemas"][each]))


@functools.cache
def validator_of(name: str, method: str) -> Validator:
    """Return what validates the schema of that name."""
    schemas = document()["schemas"]
    defs = {each: convert(schemas[each], method) for each in reachable(name)}
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": defs})


@dataclass(frozen=True)
class Method:
    """One method of the document, and what its paths look like."""

    description: Mapping[str, Any]
    pattern: re.Pattern[str]

    @property
    def id(self) -> str:
        """Return its whole name."""
        return str(self.description["id"])


@functools.cache
def methods() -> tuple[Method, ...]:
    """Return every method of the document."""
    return tuple(methods_of(document()))


def methods_of(resource: Mapping[str, Any]) -> Iterator[Method]:
    """Yield the methods of a resource and of those in it."""
    for each in resource.get("methods", {}).values():
        path = "/" + document()["servicePath"] + each.get("flatPath", each["path"])
        parts = re.split(r"({\+?\w+})", path)
        pattern = "".join("([^/]+)" if part.startswith("{") else re.escape(part) for part in parts)
        yield Method(each, re.compile(pattern))
    for each in resource.get("resources", {}).values():
        yield from methods_of(each)


@functools.cache
def by_verb(verb: str) -> tuple[Method, ...]:
    """Return the methods of an HTTP verb."""
    return tuple(each for each in methods() if each.description["httpMethod"] == verb)


def find(verb: str, path: str) -> tuple[Method, Mapping[str, str]] | None:
    """Return the method of a request, and the values in its path; None: there is none."""
    for each in by_verb(verb):
        if match := each.pattern.fullmatch(path):
            names = re.findall(r"{\+?(\w+)}", each.description.get("flatPath", each.description["path"]))
            return each, {name: unquote(value) for name, value in zip(names, match.groups(), strict=True)}
    return None


@dataclass
class Judge:
    """Every exchange that was seen, and every fault that was found; ``excused``: faults that a test plants itself."""

    faults: list[str] = field(default_factory=list)
    seen: list[tuple[str, int]] = field(default_factory=list)

    def request(self, verb: str, target: str, body: bytes) -> Method | None:
        """Judge a request; return its method."""
        parts = urlsplit(target)
        found = find(verb, parts.path)
        if found is None:
            self.faults.append(f"request {verb} {parts.path}: no such method")
            return None
        method, values = found
        known = method.description.get("parameters", {})
        query = parse_qsl(parts.query, keep_blank_values=True)
        for name, value in [*values.items(), *query]:
            parameter = known.get(name) or document()["parameters"].get(name)
            if parameter is None:
                self.faults.append(f"request {method.id}: no parameter {name}")
            else:
                self.parameter(method, name, value, parameter)
        given = {name for name, _ in query} | values.keys()
        for name, parameter in known.items():
            if parameter.get("required") and name not in given:
                self.faults.append(f"request {method.id}: parameter {name} is missing")
        self.body(f"request {method.id}", body, method.description.get("request"), method.id)
        return method

    def parameter(self, method: Method, name: str, value: str, schema: Mapping[str, Any]) -> None:
        """Judge one value of a path or query."""
        if "pattern" in schema and not re.fullmatch(schema["pattern"], value):
            self.faults.append(f"request {method.id}: {name}={value!r} does not match {schema['pattern']}")
        if "enum" in schema and value not in schema["enum"]:
            self.faults.append(f"request {method.id}: {name}={value!r} is none of its words")
        if schema.get("type") == "integer" and not value.isdigit():
            self.faults.append(f"request {method.id}: {name}={value!r} is no number")
        if schema.get("type") == "boolean" and value not in ("true", "false"):
            self.faults.append(f"request {method.id}: {name}={value!r} is neither true nor false")

    def answer(self, method: Method, status: int, content_type: str, body: bytes) -> None:
        """Judge an answer; pages of HTML are what a proxy in between says, not the API."""
        self.seen.append((method.id, status))
        subject = f"answer {status} of {method.id}"
        if "json" not in content_type:
            if status < 500:
                self.faults.append(f"{subject}: {content_type} and no JSON")
        elif status == 200:
            self.body(subject, body, method.description.get("response"), "")
        else:
            self.instance(subject, body, jsonschema.Draft202012Validator(ERROR_SCHEMA))

    def body(self, subject: str, body: bytes, schema: Mapping[str, Any] | None, method: str) -> None:
        """Judge a body by the schema that the document names for it."""
        if schema is None:
            if body.strip():
                self.faults.append(f"{subject}: a body where there is none")
            return
        self.instance(subject, body or b"{}", validator_of(schema["$ref"], method))

    def instance(self, subject: str, body: bytes, validator: Validator) -> None:
        """Judge a body by a validator."""
        try:
            value = json.loads(body)
        except ValueError as error:
            self.faults.append(f"{subject}: no JSON ({error})")
            return
        for error in validator.iter_errors(value):
            self.faults.append(f"{subject}: {error.json_path}: {error.message}")


class JudgingProxy:
    """Stands between a client and the emulator at *endpoint*, and shows everything to its judge."""

    def __init__(self, endpoint: str) -> None:
        self.judge = Judge()
        self.target = urlsplit(endpoint)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    @property
    def endpoint(self) -> str:
        """Return where clients are pointed at."""
        return f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "JudgingProxy":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def forward(self, verb: str, path: str, body: bytes) -> tuple[int, str, bytes] | None:
        """Hand a request on; return status, type and body of the answer, or None where none comes."""
        connection = http.client.HTTPConnection(self.target.hostname or "", self.target.port, timeout=150)
        try:
            connection.request(verb, path, body or None, {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, response.headers.get("Content-Type", ""), response.read()
        except (http.client.HTTPException, ConnectionError):
            return None
        finally:
            connection.close()


def handler_of(proxy: JudgingProxy) -> type[BaseHTTPRequestHandler]:
    """Return what handles the proxy's requests."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            method = proxy.judge.request(self.command, self.path, body)
            answer = proxy.forward(self.command, self.path, body)
            if answer is None:
                self.close_connection = True
                return
            status, kind, said = answer
            if method is not None:
                proxy.judge.answer(method, status, kind, said)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *_: Any) -> None:
            return

    for verb in ("GET", "POST", "PUT", "PATCH", "DELETE"):
        setattr(Handler, f"do_{verb}", Handler.handle_any)
    return Handler
