"""Which receiver serves whom: processes of one client, shared ones, and changes between them.

``hub.staff`` starts and ends the processes; here is the account of them.
"""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable, Collection

from hub.duties import ReceiverEnded, Worker
from hub.sharing import RETIRE_S, Shared, places
from shared.messages import MailOp


class Receivers:
    """The receivers of a hub.

    Args:
        clients_per_worker: clients that share a receiver; None: as ``hub.sharing`` says.
        cores: that receivers have.
        socket_of: a session's socket; None: it is over.
    """

    def __init__(
        self,
        clients_per_worker: int | None,
        cores: int,
        socket_of: Callable[[int], socket.socket | None],
    ) -> None:
        self._clients_per_worker = clients_per_worker
        self._cores = cores
        self._socket_of = socket_of
        self._all: dict[int, Worker] = {}  # by token
        self._relieved: dict[int, Worker] = {}  # those whose client gets another, by session
        self._sharing: dict[int, Worker] = {}  # by session
        self._apart: set[int] = set()  # sessions that shall share with nobody

    @property
    def places(self) -> int:
        """How many clients the next receiver may serve."""
        return places(self._clients_per_worker, self._clients, self._cores)

    @property
    def crowded(self) -> bool:
        """Whether there are more clients than shall have a receiver each."""
        if self._clients_per_worker is not None:
            return False
        return places(None, self._clients - 1, self._cores) > 1

    def relieving(self, since_s: float) -> int:
        """Receivers that are to let go of their client since then, and have not ended yet."""
        times = [worker.relieved_s for worker in self._relieved.values()]
        return sum(at_s is not None and at_s >= since_s for at_s in times)

    @property
    def sharing(self) -> Collection[int]:
        """Sessions that share a receiver, or soon will."""
        return self._sharing.keys()

    def alone(self) -> list[Worker]:
        """Those of one client that live, and whose client may share another."""
        return [
            worker
            for worker in self._alone()
            if worker.pid is not None
            and not worker.stuck
            and worker.duty.session not in self._apart
        ]

    def keep_apart(self, session: int) -> None:
        """Have a client share with nobody: it may be what a shared receiver has died of."""
        self._apart.add(session)

    def serving(self, session: int) -> list[Worker]:
        """Who serves a session now: not who is to take it over."""
        if session in self._relieved:
            return [self._relieved[session]]
        return [worker for worker in self._all.values() if session in worker.served]

    def hired(self, worker: Worker) -> None:
        """One more has been ordered."""
        self._all[worker.token] = worker
        for session in worker.served if worker.shared is not None else ():
            self._sharing[session] = worker

    def put(self, slot: int, session: int, op: MailOp = MailOp.SOCKET) -> Worker | None:
        """Have a shared receiver that has room serve one more; None: there is none."""
        sock = self._socket_of(session)
        for worker in self._all.values():
            shared = worker.shared
            if shared is not None and sock is not None and shared.put(slot, session, sock, op):
                self._sharing[session] = worker
                return worker
        return None

    def relieve(self, worker: Worker, now_s: float) -> bool:
        """Have a shared receiver take over the client of one of one client, which lets go of it.

        Returns:
            False: no shared receiver has room.
        """
        duty = worker.duty
        if self.put(duty.slot, duty.session, MailOp.AWAIT) is None:
            return False
        worker.relieved_s = now_s
        self._relieved[duty.session] = worker
        return True

    def release(self, session: int) -> None:
        """A session is over: its shared receiver, if it had one, has room for another."""
        self._apart.discard(session)
        worker = self._sharing.pop(session, None)
        if worker is None or worker.shared is None:
            return
        del worker.shared.sessions[session]
        if not worker.shared.sessions:
            asyncio.get_running_loop().call_later(RETIRE_S, self._retire, worker.shared)

    def forget(self, worker: Worker) -> None:
        """It has ended, or will never begin."""
        self._all.pop(worker.token, None)

    def heir(self, worker: Worker) -> Worker | None:
        """Who has taken over, or will, the client of one that has ended in being relieved."""
        session = worker.duty.session
        if self._relieved.get(session) is not worker:
            return None
        del self._relieved[session]
        return self._sharing.get(session)

    def ended(self, worker: Worker, status: int) -> tuple[ReceiverEnded, list[Worker]]:
        """A receiver that leaves clients to others has ended.

        Returns:
            what becomes of them, and who must end with it: whoever was being relieved by it may
            have let go already of a client that it has not begun to serve.
        """
        if worker.shared is not None:
            worker.shared.close()
        left = [session for session in worker.served if session not in self._relieved]
        with_it = [self._relieved[one] for one in worker.served if one in self._relieved]
        for session in worker.served:
            self._sharing.pop(session, None)
        killed = status == -signal.SIGKILL and not worker.stuck
        alone = worker.shared is None or not killed
        return ReceiverEnded(tuple(left), status, worker.stuck, alone), with_it

    def is_relieved(self, session: int) -> bool:
        """Whether another than the shared receiver it is put to serves a session yet."""
        return session in self._relieved

    @property
    def _clients(self) -> int:
        return len(self._alone()) + len(self._sharing)

    def _alone(self) -> list[Worker]:
        """Those of one client, but who is being relieved."""
        own = [worker for worker in self._all.values() if worker.shared is None]
        return [one for one in own if self._relieved.get(one.duty.session) is not one]

    @staticmethod
    def _retire(shared: Shared) -> None:
        if not shared.sessions:
            shared.close()
