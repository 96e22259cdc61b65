"""Reading mail (see ``shared.messages``) from within a kernel: four words and a socket."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from shared.bundles import bundle
from shared.kernels import kernel
from shared.libc import MSG_CMSG_CLOEXEC, MSG_DONTWAIT, SCM_RIGHTS, SOL_SOCKET, recvmsg
from shared.messages import MAIL

_MSG_TRUNC = 0x20
_CONTROL_BYTES = 20
"""One struct cmsghdr with one descriptor; the kernel closes what does not fit."""


@bundle
class Mailbox(NamedTuple):
    """Scratch of ``read_mail``.

    Attributes:
        words: (4,) int64, the mail: op, slot, session, 0.
        control: (3,) int64, ancillary data.
        vector: (2,) int64, struct iovec.
        message: (7,) int64, struct msghdr.
    """

    words: npt.NDArray[np.int64]
    control: npt.NDArray[np.int64]
    vector: npt.NDArray[np.int64]
    message: npt.NDArray[np.int64]


def make_mailbox() -> Mailbox:
    """A mailbox whose structs point at each other."""
    box = Mailbox(*(np.zeros(n, np.int64) for n in (4, 3, 2, 7)))
    box.vector[:] = box.words.ctypes.data, MAIL.size
    box.message[2:5] = box.vector.ctypes.data, 1, box.control.ctypes.data
    return box


@kernel
def take_mail(fd, box):
    """Take one mail, if there is one, into box.words.

    Returns:
        (size, attached descriptor or −1): size is 0 when nobody can send any more, < 0 when the
        box is empty. A mail of another size has words that are all 0, which is no MailOp.
    """
    box.message[5] = _CONTROL_BYTES
    box.control[0] = 0
    flags = MSG_DONTWAIT | MSG_CMSG_CLOEXEC | _MSG_TRUNC  # the last: tell the true size
    size = recvmsg(fd, box.message.ctypes.data, flags)
    if size <= 0:
        return size, np.int64(-1)
    if size != 8 * len(box.words):
        box.words[:] = 0
    if box.message[5] >= _CONTROL_BYTES and box.control[1] == SOL_SOCKET | SCM_RIGHTS << 32:
        return size, box.control[2] & 0xFFFFFFFF
    return size, np.int64(-1)


@kernel
def read_mail(fd, box):
    """As ``take_mail``, where it does not matter why there is none: whether there was one."""
    size, attached = take_mail(fd, box)
    return size > 0, attached
