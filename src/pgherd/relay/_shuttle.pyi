"""The C extension's face; what it does is described in _shuttle_talk.c."""

from typing import Any

Look = tuple[int, int, bool, int, int, int, int, int, int]
Counts = tuple[int, int, int, int, int, int, int, int, int, tuple[int, ...]]

class Shuttle:
    """A thread that carries transactions. Numbers of clients and servers are Python's, and not 0.

    Descriptors are lent: whoever puts a client or server must not read, write or close its socket
    before it has come back with the news. classes_ms: upper bounds of the classes that waits are
    counted by.
    """

    def __new__(cls, classes_ms: tuple[int, ...]) -> Shuttle:
        """Start the thread. Raises OSError where that does not work."""

    def pool(self) -> int:
        """A new pool."""

    def drop_pool(self, pool: int, /) -> None:
        """Forget a pool. Raises ValueError while it has clients or servers."""

    def put_client(
        self,
        client: int,
        fd: int,
        pools: tuple[int, ...],
        settings: int,
        domain: int,
        names: list[tuple[bytes, bytes, int, int]],
        /,
    ) -> bool:
        """Carry a client that is at rest; False: it cannot be, and nothing has changed.

        pools: 8 at most, each of its transactions may have a server of any of these · domain:
        of its statements; not 0: it reads, and errors are for Python · names: its
        statements: as it calls them, as servers do, their number, their moment.
        """

    def put_server(
        self, server: int, fd: int, pool: int, settings: int, shelf: list[tuple[int, int]], /
    ) -> bool:
        """Lend an idle server. shelf: statements that are prepared there, and their moments."""

    def recall(self, client: int, /) -> bool:
        """Have a client back, with its server if it has one, in the news; False: it is not here."""

    def recall_server(self, server: int, /) -> None:
        """Have a server back as soon as nobody has it."""

    def recall_pool(self, pool: int, /) -> None:
        """Have everybody of a pool back, whatever they do."""

    def share(self, pool: int, count: int, /) -> None:
        """Have the next so many servers back that are idle, before clients here get them."""

    def trim(self, pool: int, idle_ms: int, /) -> None:
        """Have servers back that were idle for so long."""

    def learn(self, domain: int, text: bytes, plain: bool, /) -> None:
        """What statements like this one are: plain, and reads where the domain is not 0."""

    def known(self, domain: int, text: bytes, /) -> bool | None:
        """What was learned of such a statement; None: nothing."""

    def answered(self, client: int, known: bool, /) -> None:
        """What a client asked for is learned; known: else Python has to do with it."""

    def look(self, client: int, /) -> Look | None:
        """State, server (0: none), whether it stirred since the last look, bytes that wait for
        client and server, bytes that it said and no server got, cycles answered: simple and
        extended, and for how long it waits (ms). None: it is not here.
        """

    def counts(self, pool: int, /) -> Counts:
        """Clients, servers, idle ones, who waits, the longest wait (ms); totals: lent, waited,
        waited for (ms), cycles of clients with a domain, and lendings by how long the client had
        waited.
        """

    def totals(self) -> tuple[int, int]:
        """Bytes that clients and servers said in all."""

    def news(self) -> list[tuple[Any, ...]]:
        """What Python has to know since the last call; see `carrying`."""

    def fileno(self) -> int:
        """Readable when there are news."""

    def close(self) -> None:
        """Stop the thread and forget everybody."""
