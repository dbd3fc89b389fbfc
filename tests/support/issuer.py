"""An issuer of tokens: its keys, the tokens that it signs, and the server of its JWKS."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ISSUER, AUDIENCE = "https://login.example.org/", "agents"


@cache
def private_key(kind: str, number: int = 0) -> Any:
    """A private key of this kind; another one for each number."""
    assert number >= 0
    match kind:
        case "RS256" | "RS512" | "PS256":
            return rsa.generate_private_key(65537, 2048)
        case "short":
            return rsa.generate_private_key(65537, 1024)
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "ES384":
            return ec.generate_private_key(ec.SECP384R1())
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()
    raise LookupError(kind)


def public_pem(kind: str, number: int = 0) -> bytes:
    found: bytes = (
        private_key(kind, number)
        .public_key()
        .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )
    return found


def claims(**more: Any) -> dict[str, Any]:
    """Usual claims; None takes one away."""
    now = int(time.time())
    usual = {"sub": "ada", "iss": ISSUER, "aud": AUDIENCE, "exp": now + 600, "iat": now}
    return {name: value for name, value in {**usual, **more}.items() if value is not None}


def token(
    kind: str = "RS256",
    *,
    number: int = 0,
    headers: dict[str, Any] | None = None,
    **more: Any,
) -> str:
    return jwt.encode(claims(**more), private_key(kind, number), kind, headers)


def jwk(kind: str, number: int = 0, **more: Any) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name(kind)
    public: dict[str, Any] = algorithm.to_jwk(private_key(kind, number).public_key(), as_dict=True)
    return {"use": "sig", **public, **more}


class JwksServer(ThreadingHTTPServer):
    """Serves ``keys`` as JWKS, or ``body``; 500 while it is ``down``. It counts the fetches."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: list[dict[str, Any]] = []
        self.body: bytes | None = None
        self.down = False
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/jwks.json"


class _Handler(BaseHTTPRequestHandler):
    server: JwksServer

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        body = self.server.body
        if body is None:
            body = json.dumps({"keys": self.server.keys}).encode()
        self.send_response(500 if self.server.down else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def jwks_server(*keys: dict[str, Any]) -> Iterator[JwksServer]:
    server = JwksServer()
    server.keys = list(keys)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
