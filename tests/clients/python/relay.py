"""A wire to a node that can be cut, whatever library sits at its end."""

import asyncio


class Relay:
    """Carries one connection; a second one, as by a library that connects again, is refused."""

    @classmethod
    async def start(cls, host, port):
        self = cls()
        self.to, self.writers, self.tasks = (host, port), [], []
        self.closed_by_node = asyncio.Event()
        self.server = await asyncio.start_server(self._carry, host, 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def _carry(self, reader, writer):
        self.server.close()
        try:
            from_node, to_node = await asyncio.open_connection(*self.to)
        except OSError:
            return writer.close()
        self.writers = [writer, to_node]
        await asyncio.gather(self._copy(reader, to_node), self._copy(from_node, writer))

    async def _copy(self, source, sink):
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        if sink is self.writers[0]:
            self.closed_by_node.set()
        sink.close()

    def cut(self):
        """Both ends see the connection close, without a word from the client."""
        self.server.close()
        for writer in self.writers:
            writer.transport.abort()
