"""A server's address that fails on demand: it passes, refuses, hangs, or answers 500, switched at run time."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from enum import Enum
from types import TracebackType

from ports import lasting_port

HOST = "127.0.0.1"
FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfail"


class Mode(Enum):
    """What becomes of a connection."""

    PASS = "pass"
    REFUSE = "refuse"
    """Nobody listens at the port."""
    HANG = "hang"
    """Somebody accepts, and never answers."""
    FAIL = "500"
    """Every request gets status 500."""


class FaultyProxy:
    """Between a client and the server at `port` on loopback; its own port stays the same through all modes.

    The header `Host` names the server: MLflow refuses the name of another.
    """

    def __init__(self, port: int) -> None:
        self._server = port
        self._mode = Mode.PASS
        self._changing = threading.Lock()
        self._open: set[socket.socket] = set()
        self._door = self._listen(lasting_port())
        self.port: int = self._door.getsockname()[1]

    def __enter__(self) -> FaultyProxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.switch(Mode.REFUSE)

    @property
    def url(self) -> str:
        """Where it answers, or does not."""
        return f"http://{HOST}:{self.port}"

    def switch(self, mode: Mode) -> None:
        """From now on; what is connected is cut off, but in `HANG`, where it falls silent."""
        with self._changing:
            before, self._mode = self._mode, mode
            if mode is Mode.REFUSE or before is Mode.REFUSE:
                _close(self._door)
            if mode is not Mode.HANG:
                for connection in self._open:
                    _close(connection)
                self._open.clear()
            if before is Mode.REFUSE and mode is not Mode.REFUSE:
                self._door = self._listen(self.port)

    def _listen(self, port: int) -> socket.socket:
        door = socket.socket()
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((HOST, port))
        door.listen(128)
        threading.Thread(target=self._accept, args=(door,), daemon=True).start()
        return door

    def _accept(self, door: socket.socket) -> None:
        while True:
            try:
                client, _ = door.accept()
            except OSError:  # closed
                return
            with self._changing:
                if self._mode is Mode.REFUSE:
                    _close(client)
                    return
                self._open.add(client)
                mode = self._mode
            if mode is not Mode.HANG:
                threading.Thread(target=self._serve, args=(client, mode), daemon=True).start()

    def _serve(self, client: socket.socket, mode: Mode) -> None:
        if mode is Mode.FAIL:
            with suppress(OSError):
                client.recv(65536)
                client.sendall(FAILURE)
                client.shutdown(socket.SHUT_WR)
                while client.recv(65536):  # a body that is not read would reset the connection, and lose the answer
                    pass
            self._forget(client)
            return
        try:
            server = socket.create_connection((HOST, self._server), timeout=10)
        except OSError:
            self._forget(client)
            return
        server.settimeout(None)
        with self._changing:
            self._open.add(server)
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if self._mode is not Mode.HANG:  # there it stays open, and what comes is swallowed
                    sink.sendall(data.replace(self._host(self.port), self._host(self._server)))
        if self._mode is not Mode.HANG:
            self._forget(source)
            self._forget(sink)

    def _host(self, port: int) -> bytes:
        return f"\r\nHost: {HOST}:{port}\r\n".encode()

    def _forget(self, connection: socket.socket) -> None:
        with self._changing:
            self._open.discard(connection)
        _close(connection)


def _close(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits in it
    connection.close()
