"""The git server and the Go module proxy of the test bed, two small HTTP servers.

Git is served by git's own `http-backend`. The first part of the path chooses how it behaves:

    /NAME.git           open
    /auth/NAME.git      asks for a user and a password (also /private/)
    /denied/NAME.git    answers 403
    /broken/NAME.git    answers 503
    /moved/NAME.git     redirects to the open one

A repository that `repositories.move` has moved redirects, too.
"""

import base64
import http.server
import os
import shutil
import subprocess
import urllib.parse
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn

from typing_extensions import override

from testbed.node import paths

MOVED = "moved-to"
"""The file in a repository's old place that names its new one: see repositories.move."""


def authorized(header: str) -> bool:
    """Whether an Authorization header holds the git server's user and password."""
    wanted = base64.b64encode(f"{paths.GIT_USER}:{paths.GIT_PASSWORD}".encode()).decode()
    return header == f"Basic {wanted}"


def route(path: str, authorization: str) -> tuple[HTTPStatus, str]:
    """What to answer to a path: OK with the path for git, or another status with its target."""
    first, _, rest = path.removeprefix("/").partition("/")
    match first:
        case "auth" | "private":
            if authorized(authorization):
                return HTTPStatus.OK, f"/{rest}"
            return HTTPStatus.UNAUTHORIZED, ""
        case "denied":
            return HTTPStatus.FORBIDDEN, ""
        case "broken":
            return HTTPStatus.SERVICE_UNAVAILABLE, ""
        case "moved":
            return HTTPStatus.MOVED_PERMANENTLY, f"/{rest}"
        case _:
            marker = paths.repositories() / first / MOVED
            if marker.is_file():
                return HTTPStatus.MOVED_PERMANENTLY, f"/{marker.read_text()}/{rest}"
            return HTTPStatus.OK, path


class GitHandler(http.server.BaseHTTPRequestHandler):
    """One request to `git http-backend`, by the rules of CGI."""

    protocol_version = "HTTP/1.0"
    server_version = "goservice-testbed-git"

    def do_GET(self) -> None:
        """Serve a GET."""
        self.serve(b"")

    def do_POST(self) -> None:
        """Serve a POST; git sends large ones in chunks."""
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            self.serve(self.chunks())
        else:
            self.serve(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    def chunks(self) -> bytes:
        """The body of a chunked request."""
        body = b""
        while size := int(self.rfile.readline().split(b";")[0].strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def serve(self, body: bytes) -> None:
        """Answer by the route of the path."""
        address = urllib.parse.urlsplit(self.path)
        status, target = route(address.path, self.headers.get("Authorization", ""))
        if status is HTTPStatus.OK:
            self.backend(target, address.query, body)
            return
        self.send_response(status)
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", 'Basic realm="goservice-testbed"')
        if status is HTTPStatus.MOVED_PERMANENTLY:
            query = f"?{address.query}" if address.query else ""
            self.send_header("Location", f"{paths.GIT}{target}{query}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def backend(self, path: str, query: str, body: bytes) -> None:
        """Hand the request to git and its answer back."""
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.environ.get("HOME", "/"),
            "GIT_PROJECT_ROOT": str(paths.repositories()),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "PATH_INFO": urllib.parse.unquote(path),
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "REMOTE_ADDR": self.client_address[0],
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        answer = subprocess.run(
            [shutil.which("git") or "git", "http-backend"],
            input=body,
            stdout=subprocess.PIPE,
            env=environment,
            check=False,
        ).stdout
        head, _, content = answer.partition(b"\r\n\r\n")
        status = HTTPStatus.OK.value
        headers: list[tuple[str, str]] = []
        for line in head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(": ")
            if name.lower() == "status":
                status = int(value.split()[0])
            elif name:
                headers.append((name, value))
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class ModuleHandler(http.server.SimpleHTTPRequestHandler):
    """The files of a Go module download cache."""

    server_version = "goservice-testbed-modules"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory=str(download_folder()))

    @override
    def list_directory(self, path: str | os.PathLike[str]) -> None:
        """A folder is not a module."""
        self.send_error(HTTPStatus.NOT_FOUND)


def download_folder() -> Path:
    """Where Go keeps what it has downloaded, laid out as the proxy protocol wants it."""
    return paths.modules() / "cache" / "download"


def serve(
    handler: type[http.server.BaseHTTPRequestHandler],
    port: int,
    address: str = paths.BRIDGE_ADDRESS,
) -> NoReturn:
    """Serve for ever, on the bridge address unless told otherwise."""
    server = http.server.ThreadingHTTPServer((address, port), handler)
    server.serve_forever()
    raise AssertionError("serve_forever returned")
