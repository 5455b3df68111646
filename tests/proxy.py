"""A proxy on loopback in front of the API server, which can make a watch fall silent.

Plain HTTP on the operator's side, TLS on the server's. It copies bytes and knows of each connection
only the request that it carries now. A frozen connection stays open and swallows everything; it
never comes back, since bytes are missing in it, but new ones are well after `thaw`.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from dataclasses import dataclass, field


@dataclass
class Connection:
    """Two sockets and the request line that the client sent last."""

    client: socket.socket
    server: socket.socket
    request: str = ""
    frozen: bool = False
    sending: threading.Lock = field(default_factory=threading.Lock)

    def close(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class Proxy:
    """Listens on a port of its own until `close`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._context = ssl.create_default_context()
        self._context.check_hostname = False
        self._context.verify_mode = ssl.CERT_NONE
        self._freezing: tuple[str, ...] = ()
        self._connections: list[Connection] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def freeze(self, *words: str) -> None:
        """Swallow whatever belongs to a request whose line has all of these words."""
        self._freezing = words

    def silence(self, *words: str) -> None:
        """Freeze the connections that carry such a request now, and no later ones."""
        for connection in self.carrying(*words):
            connection.frozen = True

    def thaw(self) -> None:
        """Freeze no more requests."""
        self._freezing = ()

    def carrying(self, *words: str) -> list[Connection]:
        """The open connections whose request has all of these words."""
        return [c for c in self._connections if all(word in c.request for word in words)]

    def inject(self, line: bytes, *words: str) -> None:
        """Send a line of its own on the streams of these requests, which must be quiet."""
        for connection in self.carrying(*words):
            with connection.sending:
                connection.client.sendall(b"%x\r\n%s\r\n" % (len(line), line))

    def close(self) -> None:
        """End every connection and stop listening."""
        self._listener.close()
        for connection in list(self._connections):
            connection.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                plain = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                return
            server = self._context.wrap_socket(plain)
            connection = Connection(client, server)
            self._connections.append(connection)
            for pump in (self._ask, self._answer):
                threading.Thread(target=pump, args=(connection,), daemon=True).start()

    def _ask(self, connection: Connection) -> None:
        """From the client to the server."""
        with contextlib.suppress(OSError):
            while data := connection.client.recv(65536):
                first = data.partition(b"\r\n")[0].decode("latin-1")
                if first.endswith(" HTTP/1.1"):
                    connection.request = first
                if not self._swallows(connection):
                    connection.server.sendall(data)
        self._end(connection)

    def _answer(self, connection: Connection) -> None:
        """From the server to the client."""
        with contextlib.suppress(OSError):
            while data := connection.server.recv(65536):
                if not self._swallows(connection):
                    with connection.sending:
                        connection.client.sendall(data)
        self._end(connection)

    def _swallows(self, connection: Connection) -> bool:
        words = self._freezing
        if words and all(word in connection.request for word in words):
            connection.frozen = True
        return connection.frozen

    def _end(self, connection: Connection) -> None:
        connection.close()
        with contextlib.suppress(ValueError):
            self._connections.remove(connection)
