"""Who may join: certificate, users, and the judgement of credentials.

Everything on the loop's thread, but for the hash (a process) and the files (a thread). The
three files are looked at four times a second; what has changed, and has then stood still for
one look, is read anew. A new file that is no good is told of, and the old one holds.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import os
import ssl
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from hub.addresses import Peer
from hub.auth.hasher import Hasher, HasherFailed
from hub.auth.passwords import DIGEST_CHARS, SALT_CHARS
from hub.auth.results import Login
from hub.auth.tls import Identity, load_identity
from hub.auth.turns import FairQueue, QueueFull
from hub.auth.users import User, Users, UsersRefused, read_users
from hub.buckets import Buckets, Source
from hub.networks import source_key
from hub.setting import ConfigError
from shared.credentials import Credentials

log = structlog.get_logger()

CREDS_OPTION = "--credsfile"
WATCH_S = 0.25
PROBLEMS_LOGGED = 20
EXPIRY_WARNING_S = 14 * 86400.0
HASH_TRIES = 2
FAILURES_AT_ONCE = 20
"""Of a source: as many as a class of pupils behind one router may need."""
FAILURES_PER_MINUTE = 10.0
MAX_FAILING = 4096
"""Sources whose failures are known."""
_NOBODY_SALT, _NOBODY_DIGEST = "." * SALT_CHARS, "." * DIGEST_CHARS
"""An unknown user's password is hashed and compared like any other, so that none can tell."""

Signature = tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class AuthFiles:
    """``--certfile``, ``--keyfile``, ``--credsfile``."""

    certificate: Path
    key: Path
    users: Path


@dataclass(frozen=True, slots=True)
class _Attempt:
    credentials: Credentials
    source: Source


class Authority:
    """Judges credentials.

    Args:
        files: read now.
        clock: CLOCK_MONOTONIC, seconds.
        local_time: the hub's.

    Raises:
        ConfigError: a file is no good; it names the option, the path, and what is wrong.
    """

    def __init__(
        self,
        files: AuthFiles,
        clock: Callable[[], float] = time.monotonic,
        local_time: Callable[[], datetime] = datetime.now,
    ) -> None:
        self._files = files
        self._clock, self._local_time = clock, local_time
        # before they are read: a change in between is seen as one
        self._seen = self._signatures()
        self.identity: Identity = load_identity(files.certificate, files.key)
        try:
            self.users: Users = read_users(files.users)
        except UsersRefused as refused:
            raise ConfigError(CREDS_OPTION, str(files.users), str(refused)) from None
        self._failures = Buckets(FAILURES_AT_ONCE, FAILURES_PER_MINUTE / 60.0, MAX_FAILING)
        self._hasher = Hasher()
        self._queue: FairQueue[_Attempt, Login] = FairQueue(self._judge)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to judge and to watch, and say what there is."""
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._watch())]
        for path in (self._files.key, self._files.users):
            with contextlib.suppress(OSError):
                if path.stat().st_mode & stat.S_IROTH:
                    advice = f"chmod 600 {path}"
                    log.warning("everybody on this machine can read", path=str(path), advice=advice)
        self._tell_users("users may join")
        self._tell_identity("certificate is shown")

    async def close(self) -> None:
        """End all; who still waits for a judgement is cancelled."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        await self._hasher.close()

    @property
    def context(self) -> ssl.SSLContext:
        """For a new connection."""
        return self.identity.context

    async def _work(self) -> None:
        """Judge what is in the queue, once it is clear that this can be done."""
        await self._digest(b"", None)  # the first to come need not wait for the process to start
        await self._queue.run()

    async def check(self, credentials: Credentials, peer: Peer) -> Login:
        """Judge credentials."""
        source = source_key(peer.address)
        if not credentials.user or not credentials.password:
            failed = self._failures.take(source, self._clock())
            return Login.WRONG_CREDENTIALS if failed else Login.LIMITED
        try:
            return await self._queue.done(source, _Attempt(credentials, source))
        except QueueFull:
            return Login.BUSY

    async def _judge(self, attempt: _Attempt) -> Login:
        credentials, source = attempt.credentials, attempt.source
        if self._failures.empty(source, self._clock()):
            return Login.LIMITED
        user = self.users.by_name.get(credentials.user)
        digest = await self._digest(credentials.password, user)
        if digest is None:
            return Login.BUSY
        right = hmac.compare_digest(digest, _NOBODY_DIGEST if user is None else user.digest)
        if user is None or not right:
            self._failures.take(source, self._clock())
            return Login.WRONG_CREDENTIALS
        return Login.OK if user.times.include(self._local_time()) else Login.WRONG_TIME

    async def _digest(self, password: bytes, user: User | None) -> str | None:
        salt = _NOBODY_SALT if user is None else user.salt
        for _ in range(HASH_TRIES):
            try:
                return await self._hasher.digest(password, salt)
            except HasherFailed as failed:
                log.error("password cannot be hashed", why=str(failed))
        return None

    # ---- the files

    async def _watch(self) -> None:
        """Read files that have changed."""
        pending = self._seen
        while True:
            await asyncio.sleep(WATCH_S)
            now = await asyncio.to_thread(self._signatures)
            if now == pending and now != self._seen:
                before, self._seen = self._seen, now
                try:
                    await self._reload(identity=now[:2] != before[:2], users=now[2] != before[2])
                except Exception:  # the watch goes on, whatever a library makes of a file
                    log.exception("files cannot be reloaded")
            pending = now

    async def _reload(self, identity: bool, users: bool) -> None:
        if identity:
            await self._reload_identity()
        if users:
            await self._reload_users()

    async def _reload_identity(self) -> None:
        try:
            self.identity = await asyncio.to_thread(
                load_identity, self._files.certificate, self._files.key
            )
        except ConfigError as error:
            log.error("certificate is not reloaded: the old one holds", why=str(error))
        else:
            self._tell_identity("certificate is reloaded")

    async def _reload_users(self) -> None:
        path = self._files.users
        try:
            self.users = await asyncio.to_thread(read_users, path)
        except UsersRefused as refused:
            log.error("users are not reloaded: the old ones hold", path=str(path), why=str(refused))
        else:
            self._tell_users("users are reloaded")

    def _signatures(self) -> tuple[Signature, ...]:
        """What changes whenever a file does."""
        return tuple(
            _signature(path)
            for path in (self._files.certificate, self._files.key, self._files.users)
        )

    def _tell_users(self, event: str) -> None:
        path, problems = str(self._files.users), self.users.problems
        log.info(event, users=len(self.users.by_name), path=path)
        for problem in problems[:PROBLEMS_LOGGED]:
            log.warning("line of users", path=path, line=problem.line, why=problem.text)
        if len(problems) > PROBLEMS_LOGGED:
            log.warning("more lines of users are wrong", count=len(problems) - PROBLEMS_LOGGED)

    def _tell_identity(self, event: str) -> None:
        expires_s = self.identity.expires_s
        day = time.strftime("%Y-%m-%d", time.localtime(expires_s))
        log.info(event, path=str(self._files.certificate), until=day)
        if expires_s - time.time() < EXPIRY_WARNING_S:
            log.warning("certificate expires soon or has expired", until=day)


def _signature(path: Path) -> Signature:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
