"""Ports for servers that are started here, which no other process of ours takes as well."""

from __future__ import annotations

import errno
import os
import socket

FIRST, LAST = 6_000, 32_000  # below Linux's ephemeral ports: no connection takes one by chance
_SHARE = 2_100  # two hubs of the harness at a time, each with 1024 for its clients


class PortsError(RuntimeError):
    """There are not so many ports."""


class Ports:
    """A share of the ports that is one process's own, for as long as it lives.

    A share is held by the abstract name of a Unix socket: the kernel gives a name to one
    socket of a network namespace, as it does a port, and takes it back from the dead. That a
    port was free a moment ago would not do: processes side by side look at the same moment.
    """

    def __init__(self) -> None:
        self._pid = 0
        self._held: socket.socket
        self._first = self._next = 0

    def take(self, count: int = 1) -> int:
        """The first of `count` consecutive ports that are free for TCP and UDP alike.

        Each call looks further on, so that servers started one after another do not meet.

        Raises:
            PortsError: no share is left, or there are not so many in this process's.
        """
        if self._pid != os.getpid():  # of a fork, both would go on from the same port
            self._first = self._next = self._claim()
            self._pid = os.getpid()
        last = self._first + _SHARE
        run = 0
        for _ in range(2 * _SHARE):
            if self._next >= last:
                self._next, run = self._first, 0
            port, self._next = self._next, self._next + 1
            run = run + 1 if _is_free(port) else 0
            if run == count:
                return port - count + 1
        raise PortsError(f"no {count} consecutive free ports in {self._first}..{last - 1}")

    def _claim(self) -> int:
        shares = (LAST - FIRST) // _SHARE
        for share in range(shares):
            self._held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                self._held.bind(f"\0tuttihub-ports-{share}")
            except OSError:
                self._held.close()
            else:
                return FIRST + share * _SHARE
        raise PortsError(f"all {shares} shares of the ports {FIRST}..{LAST - 1} are taken")


def _is_free(port: int) -> bool:
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            try:
                with socket.socket(family, kind) as probe:
                    if kind == socket.SOCK_STREAM:
                        # as servers do: connections that have ended do not hold a port
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    if family == socket.AF_INET6:
                        probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                    probe.bind((address, port))
            except OSError as error:
                # a machine may have no IPv6
                if family == socket.AF_INET or error.errno == errno.EADDRINUSE:
                    return False
    return True


PORTS = Ports()
