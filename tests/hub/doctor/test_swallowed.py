"""What is said about a closed port, whoever reads it."""

from __future__ import annotations

import socket
import time

from hub.doctor.line import Line
from hub.doctor.names import Address
from hub.doctor.playing import Ears
from hub.doctor.swallowed import _port_closed
from hub.doctor.visit import Hub
from loadtest.conduct.ports import PORTS
from tests.end_to_end.processes import wait_until

HERE = Address("127.0.0.1", socket.AF_INET)


def test_a_complaint_that_the_ears_have_read_counts() -> None:
    line, hub = Line(HERE), Hub(HERE, 4464, "somebody")
    ears = Ears(line)
    try:
        time.sleep(0.1)  # they wait for a datagram by now, and are woken by the complaint
        line.send(b"knock", PORTS.take())
        wait_until(lambda: line.complaints, 5.0, "the ears have read it")
        assert not line.hear_complaints()
        assert _port_closed(line, hub, 0)
        assert not _port_closed(line, hub, len(line.complaints))
    finally:
        ears.close()
        line.close()
