"""What one client says in clear, before anybody knows it; sans-IO."""

from __future__ import annotations

from shared.protocol import HELLO_TIMEOUT_S, NAME_GRACE_S, Hello, HelloReader, PeerError


class Greeting:
    """What one connection has said so far, and until when it may go on. Sans-IO.

    Args:
        named: whether a name is waited for; without, the port is all there is to say.
    """

    def __init__(self, now: float, named: bool = True) -> None:
        self._reader = HelloReader()
        self._named = named
        self._ended = False
        self.deadline = now + HELLO_TIMEOUT_S

    @property
    def portless(self) -> bool:
        """Whether not even the port has come."""
        return self._reader.portless

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes of the peer; none mean that it will send no more.

        Raises:
            PeerError: it will never be a hello.
        """
        if not data:
            self._ended = True
            if self.portless:
                raise PeerError("hello: ended before four bytes of a port")
            return
        waited_for_port = self.portless
        self._reader.receive(data)
        if waited_for_port and not self.portless:
            self.deadline = min(self.deadline, now + NAME_GRACE_S)

    def result(self, now: float) -> Hello | None:
        """The hello once it is worth an answer: complete, ended, or its grace is over.

        Raises:
            PeerError: the peer took too long to name its port.
        """
        said = self._reader.complete if self._named else not self.portless
        if said or self._ended or now >= self.deadline:
            hello = self._reader.hello
            if hello is None:
                raise PeerError(f"hello: no port within {HELLO_TIMEOUT_S:g} s")
            return hello
        return None
