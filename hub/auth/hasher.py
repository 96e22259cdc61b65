"""A process that hashes passwords: a hash takes milliseconds, which nobody else is to wait.

It is a process since the library is Python, and a thread of the hub would hold the
interpreter; it is a nice one, since musicians go first. Requests and replies go through
its pipes, one at a time::

    hub  ->  u8 bytes of salt, u16 bytes of password, salt, password
    hub  <-  86 characters of digest

It ends when its input ends, and so with the hub, however that dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import struct
import sys

from hub.auth.passwords import DIGEST_CHARS, PASSWORD_BYTES, password_digest

NICENESS = 10
HASH_TIMEOUT_S = 10.0
END_S = 0.5
_REQUEST = struct.Struct("<BH")


class HasherFailed(RuntimeError):
    """The process has died, or cannot be started."""


class Hasher:
    """The process, seen from the hub; started when first needed, and again after its death."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def digest(self, password: bytes, salt: str) -> str:
        """As ``password_digest``; not to be called again before it is done.

        Raises:
            HasherFailed: no digest, of no fault of the password's.
        """
        try:
            async with asyncio.timeout(HASH_TIMEOUT_S):
                process = await self._running()
                assert process.stdin is not None
                assert process.stdout is not None
                # more than that is cut there anyway
                password = password[:PASSWORD_BYTES]
                head = _REQUEST.pack(len(salt), len(password))
                process.stdin.write(head + salt.encode() + password)
                await process.stdin.drain()
                return (await process.stdout.readexactly(DIGEST_CHARS)).decode()
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            await self.close()  # the next one is answered by a new process, in step
            raise HasherFailed(str(error) or type(error).__name__) from error

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                "hub.auth.hasher",
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is the hub's
            )
        return self._process

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(END_S):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def main() -> None:
    """The process itself."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    requests, replies = sys.stdin.buffer, sys.stdout.buffer
    while len(head := requests.read(_REQUEST.size)) == _REQUEST.size:
        salt_bytes, password_bytes = _REQUEST.unpack(head)
        body = requests.read(salt_bytes + password_bytes)
        if len(body) < salt_bytes + password_bytes:
            return
        digest = password_digest(body[salt_bytes:], body[:salt_bytes].decode())
        try:
            replies.write(digest.encode())
            replies.flush()
        except OSError:  # the hub is gone
            return


if __name__ == "__main__":
    main()
