"""The C extension's face; what it does is described in _pump_flow.c."""

class Pump:
    """Threads that pass bytes between pairs of sockets. Sides: False the client, True the server.

    A handle names its flow until both sides are lost; then it names nothing, and whatever is asked
    for it has no effect.
    """

    def __new__(cls, threads: int = 1, uring: bool = False) -> Pump:
        """Threads that wait by epoll or by io_uring. Raises OSError where those cannot be had."""

    def add(self, client: int, server: int, /) -> int:
        """Take two connected sockets over, by their descriptors, and give a handle."""

    def look(self, handle: int, /) -> tuple[bytes, bool, bool, int, int, int] | None:
        """The last bytes of the server; whether the client spoke last; whether it half-closed;
        bytes that came from both so far; what client and server have not taken yet.
        """

    def halt(self, handle: int, halted: bool, /) -> None:
        """Let nothing pass any more from this moment on, or again."""

    def write(self, handle: int, side: bool, data: bytes, /) -> None:
        """Say something, behind what waits for this side already."""

    def end(self, handle: int, side: bool, /) -> None:
        """Tell a side that nothing more comes, once it has taken all."""

    def leave(self, handle: int, side: bool, /) -> None:
        """Close a side once it has taken all."""

    def drop(self, handle: int, side: bool, /) -> None:
        """Close a side now."""

    def tcp_info(self, handle: int, side: bool, /) -> bytes:
        """What the kernel knows of a side (tcp_info, linux/tcp.h); empty where it knows nothing."""

    def losses(self) -> list[tuple[int, bool, int]]:
        """Sides that are closed since the last call: handle, side, errno. Each is told once."""

    def totals(self) -> tuple[int, int]:
        """Bytes that clients and servers said in all."""

    def fileno(self) -> int:
        """Readable when there are losses."""

    def close(self) -> None:
        """Stop the threads and close every socket."""
