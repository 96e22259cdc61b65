"""A hub's TCP door, and all that may stand in its place: small servers on loopback."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from hub.doctor import knock
from hub.doctor.examination import Examination, Wish
from hub.doctor.knock import Account, Door, Reply, reach, say_hello
from hub.doctor.names import Address
from loadtest.conduct.ports import PORTS
from shared.protocol import HELLO_BYTES, Answer, pack_answer

HERE = Address("127.0.0.1", socket.AF_INET)
ANNA = Account("anna", "secret")


@contextmanager
def somebody(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """A TCP port behind which each connection is served so; then closed."""
    listener = socket.create_server(("127.0.0.1", 0))
    end = threading.Event()

    def run() -> None:
        while not end.is_set():
            with contextlib.suppress(OSError):
                peer, _ = listener.accept()
                with peer, contextlib.suppress(OSError):
                    serve(peer)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield int(listener.getsockname()[1])
    end.set()
    with contextlib.suppress(OSError), socket.create_connection(listener.getsockname(), 1):
        pass
    thread.join(5.0)
    listener.close()


def after_hello(reply: bytes) -> Callable[[socket.socket], None]:
    def serve(peer: socket.socket) -> None:
        peer.recv(HELLO_BYTES)
        peer.sendall(reply)

    return serve


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def mute(peer: socket.socket) -> None:
    peer.recv(HELLO_BYTES)
    peer.recv(1)


def only_the_nameless(peer: socket.socket) -> None:
    if len(peer.recv(HELLO_BYTES)) == 4:
        peer.sendall(pack_answer(61002))


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (pack_answer(61002), Reply.PORT),
        (pack_answer(Answer.AUTH_REQUIRED), Reply.AUTH_REQUIRED),
        (pack_answer(Answer.WRONG_TIME), Reply.WRONG_TIME),
        (pack_answer(Answer.AUTH), Reply.NOT_A_HUB),
        (pack_answer(0), Reply.NOT_A_HUB),
        (pack_answer(-5), Reply.NOT_A_HUB),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", Reply.NOT_A_HUB),
        (b"no", Reply.NOT_A_HUB),
        (b"", Reply.CLOSED),
    ],
)
def test_what_is_answered_to_a_hello(said: bytes, reply: Reply) -> None:
    with somebody(after_hello(said)) as port:
        answered = say_hello(HERE, port, 4464, "Anna")
    assert answered.reply is reply
    assert answered.udp_port == (61002 if reply is Reply.PORT else 0)


def test_something_else_tells_what_it_is() -> None:
    with somebody(after_hello(b"SSH-2.0-OpenSSH_9.2\r\n\x00\xff")) as port:
        assert say_hello(HERE, port, 4464, "Anna").said == "SSH-2.0-OpenSSH_9.2"


@pytest.mark.parametrize(
    ("said", "reply"),
    [
        (pack_answer(Answer.AUTH_NOT_REQUIRED), Reply.AUTH_NOT_REQUIRED),
        (pack_answer(61002), Reply.AUTH_UNKNOWN),
        (pack_answer(Answer.AUTH) + b"this is no TLS at all", Reply.TLS_FAILED),
    ],
)
def test_what_is_answered_to_a_login(said: bytes, reply: Reply) -> None:
    with somebody(after_hello(said)) as port:
        assert say_hello(HERE, port, 4464, "Anna", ANNA).reply is reply


def test_a_door_that_is_slammed() -> None:
    with somebody(reset) as port:
        assert say_hello(HERE, port, 4464, "Anna").reply is Reply.RESET


def test_somebody_who_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knock, "ANSWER_TIMEOUT_S", 0.2)
    with somebody(mute) as port:
        assert say_hello(HERE, port, 4464, "Anna").reply is Reply.SILENT


def test_nobody_is_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        (reached,) = reach((HERE,), taken.getsockname()[1])
    assert reached.door is Door.REFUSED


@pytest.mark.parametrize(
    ("serve", "account", "fault", "code"),
    [
        (after_hello(b"HTTP/1.1 400 Bad Request\r\n"), None, "not-a-hub", 4),
        (after_hello(b""), None, "turned-away", 5),
        (only_the_nameless, None, "name-refused", 5),
        (reset, None, "turned-away-unheard", 5),
        (after_hello(pack_answer(Answer.AUTH_REQUIRED)), None, "password-wanted", 5),
        (after_hello(pack_answer(Answer.AUTH_NOT_REQUIRED)), ANNA, "password-not-wanted", 5),
        (after_hello(pack_answer(61002)), ANNA, "password-unknown", 5),
    ],
)
def test_the_examination_ends_at_the_door(
    serve: Callable[[socket.socket], None], account: Account | None, fault: str, code: int
) -> None:
    with somebody(serve) as port:
        report = Examination(Wish("127.0.0.1", port, 1.0, 0, account=account)).run()
    assert [finding.fault for finding in report.findings] == [fault]
    assert (report.verdict, report.exit_code) == ("unfit", code)
    assert report.hello is not None
    assert report.udp is None


@pytest.mark.alone
@pytest.mark.undivided
def test_a_hub_whose_udp_port_is_closed() -> None:
    """TCP leads to a hub, and UDP to a machine where nobody listens."""
    with somebody(after_hello(pack_answer(PORTS.take()))) as port:
        report = Examination(Wish("127.0.0.1", port, 1.0, 0)).run()
    assert [finding.fault for finding in report.findings] == ["udp-port-closed"]
    assert report.exit_code == 6


def test_a_taken_port_is_told() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        with somebody(after_hello(b"")) as port:
            report = Examination(Wish("127.0.0.1", port, 1.0, taken.getsockname()[1])).run()
    assert [finding.fault for finding in report.findings] == ["local-port-busy", "turned-away"]
