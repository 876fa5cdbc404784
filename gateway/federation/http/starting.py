"""What a node's private port answers before there is an application: 503, and what its start waits for."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self

from uvicorn.server import ServerState

from gateway.federation.http.connection import BoundedProtocol
from gateway.federation.http.health import Readiness, private_app
from gateway.federation.http.serve import PRIVATE_LIMITS, Address, config_of


class Starting:
    """Answers on a bound socket from a thread of its own, until the block ends; the socket stays as it is."""

    def __init__(self, bound: socket.socket, address: Address) -> None:
        self.readiness = Readiness(self._never)
        # Of the same port: closed by itself, and whoever takes over goes on with the first one.
        self._socket = bound.dup()
        self._config = config_of(private_app(self.readiness), address, PRIVATE_LIMITS, lifespan="off")
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="starting", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(RuntimeError):  # it couldn't be listened on: whoever takes over says so
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._config.load()
        connect = partial(BoundedProtocol, config=self._config, server_state=ServerState(), app_state={})
        listener = await self._loop.create_server(connect, sock=self._socket, backlog=self._config.backlog)
        async with listener:
            await self._over.wait()

    @staticmethod
    async def _never() -> dict[str, str]:
        raise AssertionError("it never starts here")
