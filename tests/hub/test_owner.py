"""Who has a port."""

from __future__ import annotations

import os
import socket

import pytest

from hub.owner import tcp_owner, udp_owner


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_listener_is_found(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        owner = tcp_owner(server.getsockname()[1])
    assert owner is not None
    assert owner.endswith(f"(pid {os.getpid()})")


def test_bound_udp_port_is_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        owner = udp_owner(sock.getsockname()[1])
    assert owner is not None
    assert owner.endswith(f"(pid {os.getpid()})")


def test_port_that_only_connects_is_no_listener() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert tcp_owner(client.getsockname()[1]) is None


def test_free_port_has_no_owner() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))  # bound, not listening
        assert tcp_owner(sock.getsockname()[1]) is None
