"""What an endpoint makes of a peer that is not heard, or not any more."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address

import numpy as np
import pytest

from hub.addresses import address_words
from hub.endpoint.trouble import HUSH_S, ClosedPort, why_unheard
from shared.arena import Records
from shared.layout import RX, TX
from shared.protocol import EXIT_BYTES


@pytest.fixture
def rx() -> Records:
    rx: Records = np.zeros(1, RX)[0]
    return rx


def test_a_closed_port_is_a_hush_with_complaints(rx: Records) -> None:
    closed = ClosedPort()
    rx["datagrams"], rx["wakeups"] = 100, 100
    assert not closed.look(rx, 5.0)
    assert not closed.look(rx, 5.0 + 2 * HUSH_S)  # a network that swallows all complains of nothing
    rx["wakeups"] = 101
    assert not closed.look(rx, 5.0 + 2 * HUSH_S)
    rx["wakeups"] = 102
    assert closed.look(rx, 5.0 + 2 * HUSH_S)
    rx["datagrams"] = 101
    assert not closed.look(rx, 5.0 + 2 * HUSH_S)
    rx["wakeups"] = 110
    assert not closed.look(rx, 5.0 + 2 * HUSH_S + HUSH_S / 2)


def test_each_cause_is_named(rx: Records) -> None:
    tx: Records = np.zeros(1, TX)[0]
    tx["packets"] = 1000
    why, figures = why_unheard(rx, tx, "hub")
    assert "firewall" in why
    assert not figures
    tx["errors"] = 600
    assert why_unheard(rx, tx, "hub")[1] == {"not_sent": 600}
    rx["wakeups"] = 20
    assert "nobody listens" in why_unheard(rx, tx, "hub")[0]
    rx["foreign"], rx["foreign_port"] = 3, 61002
    rx["foreign_high"], rx["foreign_low"] = address_words(IPv4Address("192.0.2.7"))
    why, figures = why_unheard(rx, tx, "hub")
    assert "from elsewhere" in why
    assert figures == {"address": "192.0.2.7", "port": 61002}
    rx["malformed"], rx["odd_bytes"] = 9, 400
    header = struct.pack("<HHBBBB", 7, 128, 3, 24, 2, 0)
    (rx["odd_header"],) = struct.unpack("=q", header)
    why, figures = why_unheard(rx, tx, "peer")
    assert why.startswith("what the peer sends")
    assert figures == {"datagrams": 9, "bytes": 400, "frames": 128, "bits": 24, "channels": 2}
    rx["odd_bytes"] = EXIT_BYTES
    assert "will not have us" in why_unheard(rx, tx, "hub")[0]


def test_only_a_connected_socket_hears_of_a_closed_port() -> None:
    """What ClosedPort builds upon: after the first datagram a read wakes up, and finds none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        there = gone.getsockname()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
        ours.settimeout(5)
        ours.connect(there)
        ours.sendto(b"x", there)
        with pytest.raises(ConnectionRefusedError):
            ours.recv(1)
