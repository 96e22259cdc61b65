"""What JackTrip from 1.3 on sends at 32 bit, told from true float32 before it is heard.

The sender copies the lower half of a double where it should copy a float. Of a sample that
came from a float three bits are left, at the top of the word: all words are 0, ±1.1e-19,
±2.0 or ±3.7e19, their 29 low bits zero. Sound that is float32 has other words in every packet
in which it is not silent; so each packet is judged by itself, and what is garbage is never
heard, not even at first::

    packet     words                        what becomes of it
    garbage    some not zero, all coarse    silence; after GARBAGE_RUN of them in a row the
                                            client is a sender of garbage (RX.garbage)
    sound      some not coarse              heard, from a sender of garbage only after SOUND_RUN
                                            of them in a row
    silent     all zero                     silence; says nothing of the sender

Where a client changes between the two, its sound fades.
"""

from __future__ import annotations

import numpy as np

from shared.kernels import kernel

GARBAGE_RUN = 8
SOUND_RUN = 64
SILENT, GARBAGE, SOUND = range(3)
_COARSE = np.uint32(0x1FFFFFFF)
"""Bits that the broken sender leaves zero in every word."""
_SIGNLESS = np.uint32(0x7FFFFFFF)


@kernel
def judge(data, offset, count):
    """What a packet's words are: SILENT, GARBAGE or SOUND.

    Args:
        data: (bytes,) uint8; offset: of the first word.
        count: words, of all channels.
    """
    words = data[offset : offset + 4 * count].view(np.uint32)
    verdict = SILENT
    for i in range(count):
        if words[i] & _COARSE != 0:
            return SOUND
        if words[i] & _SIGNLESS != 0:
            verdict = GARBAGE
    return verdict


@kernel
def muted(rx, verdict):
    """Enter a packet's verdict into the client's books; whether the packet must not be heard."""
    if verdict == GARBAGE:
        rx.garbage_packets += 1
        rx.garbage_run += 1
        rx.sound_run = 0
        if rx.garbage_run >= GARBAGE_RUN:
            rx.garbage = 1
        return True
    if verdict == SOUND:
        rx.garbage_run = 0
        rx.sound_run += 1
        if rx.sound_run >= SOUND_RUN:
            rx.garbage = 0
    return rx.garbage != 0
