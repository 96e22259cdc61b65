"""JackTrip's wire protocol, sans-IO: bytes in, facts out; no socket, no clock.

A session is a TCP hello and its 4-byte answer, then UDP audio both ways::

    client                                   hub
      | 4 bytes port [+ 64 bytes name]  ->    |    TCP
      |        <-  4 bytes UDP port           |    TCP, then both close
      | datagrams of r full packets    <->    |    UDP, one per period
      | 2 x 63 bytes 0xff              <->    |    UDP, good-bye

A *full packet* is the 16-byte header followed by planar samples::

    0        8      10      12    13    14     15
    +--------+------+-------+-----+-----+------+------+
    | time µs| seq  |frames |rate |bits | wants|sends | channel 0 | channel 1 | ...
    | u64    | u16  | u16   | u8  | u8  | u8   | u8   |
    +--------+------+-------+-----+-----+------+------+

All integers are little-endian. The kernels' own parser is ``workers.packet``;
this module is the reference it is tested against.
"""

from __future__ import annotations

import struct
import unicodedata
from dataclasses import dataclass
from enum import IntEnum

HEADER = struct.Struct("<QHHBBBB")
HEADER_BYTES = HEADER.size
MAX_DATAGRAM_BYTES = 65507
"""The largest UDP payload over IPv4."""

MIN_FRAMES, MAX_FRAMES = 16, 8192
"""Packet sizes the hub carries. The original takes fewer frames too, which no audio system
uses, and which would let one client cost the hub a hundred packets a period."""
MAX_REDUNDANCY = 8
"""Copies of a packet that are used for repair, and answered: beyond that a datagram of a few
bytes could ask for thousands."""
MAX_CHANNELS = 16
"""Channels each way that the hub carries for one client."""
BIT_RESOLUTIONS = (8, 16, 24, 32)
RATES_HZ = (22050, 32000, 44100, 48000, 88200, 96000, 192000)
"""Sample rate by code; code 7 is 'undefined' (and what a 192 kHz sender puts there)."""
RATE_UNDEFINED = 7
SENDS_NOTHING = 255

EXIT_BYTES = 63
EXIT_PACKET = b"\xff" * EXIT_BYTES
EXIT_REPEATS = 2

DEFAULT_TCP_PORT = 4464
DEFAULT_UDP_BASE = 61002
MAX_CLIENTS = 1024
NAME_BYTES = 64
HELLO_PORT_BYTES = 4
HELLO_BYTES = HELLO_PORT_BYTES + NAME_BYTES
HELLO_TIMEOUT_S = 5.0
NAME_GRACE_S = 0.05
"""How long a 4-byte hello waits for its name: 1.2 clients send none, later ones may be split."""
SILENCE_TIMEOUT_S = 10.0


class Answer(IntEnum):
    """Values of the hub's 4-byte answer that are no port."""

    AUTH = 1 << 16
    AUTH_REQUIRED = 2 << 16
    AUTH_NOT_REQUIRED = 3 << 16
    WRONG_CREDENTIALS = 4 << 16
    WRONG_TIME = 5 << 16


class PeerError(ValueError):
    """The peer broke the protocol; the text says which field and what it held."""


@dataclass(frozen=True, slots=True)
class AudioHeader:
    """The 16 bytes before every block of audio.

    Attributes:
        timestamp_us: sender's wall clock, microseconds since 1970; informational.
        sequence: packet number modulo 65536.
        frames: samples per channel in this packet.
        rate_code: index into RATES_HZ, or 7 for undefined.
        bits: bits per sample: 8, 16, 24 or 32.
        wants: channels the sender wants to receive (byte 14).
        sends: channels this packet carries (byte 15 resolved; 0 for 'nothing').
    """

    timestamp_us: int
    sequence: int
    frames: int
    rate_code: int
    bits: int
    wants: int
    sends: int

    @property
    def packet_bytes(self) -> int:
        """Size of one full packet, header included."""
        return HEADER_BYTES + self.frames * self.sends * (self.bits // 8)


def pack_header(header: AudioHeader) -> bytes:
    """Encode a header; raises struct.error when a field does not fit its width."""
    if header.sends == header.wants:
        byte15 = 0
    elif header.sends == 0:
        byte15 = SENDS_NOTHING
    else:
        byte15 = header.sends
    return HEADER.pack(
        header.timestamp_us,
        header.sequence,
        header.frames,
        header.rate_code,
        header.bits,
        header.wants,
        byte15,
    )


def parse_header(data: bytes | memoryview) -> AudioHeader:
    """Decode and validate one header.

    Raises:
        PeerError: too short, or a field is outside what the protocol allows.
    """
    if len(data) < HEADER_BYTES:
        raise PeerError(f"header: {len(data)} bytes, at least {HEADER_BYTES} wanted")
    timestamp_us, sequence, frames, rate_code, bits, wants, byte15 = HEADER.unpack_from(data)
    if not MIN_FRAMES <= frames <= MAX_FRAMES:
        raise PeerError(f"frames: {frames} is not in {MIN_FRAMES}..{MAX_FRAMES}")
    if rate_code > RATE_UNDEFINED:
        raise PeerError(f"rate code: {rate_code} is not in 0..{RATE_UNDEFINED}")
    if bits not in BIT_RESOLUTIONS:
        raise PeerError(f"bits: {bits} is not one of {BIT_RESOLUTIONS}")
    if byte15 == 0:
        sends = wants
    elif byte15 == SENDS_NOTHING:
        sends = 0
    else:
        sends = byte15
    if not 1 <= sends <= MAX_CHANNELS:
        raise PeerError(f"channels sent: {sends} is not in 1..{MAX_CHANNELS}")
    if not 1 <= wants <= MAX_CHANNELS:
        raise PeerError(f"channels wanted: {wants} is not in 1..{MAX_CHANNELS}")
    return AudioHeader(timestamp_us, sequence, frames, rate_code, bits, wants, sends)


def parse_datagram(data: bytes | memoryview) -> tuple[AudioHeader, int]:
    """Validate an audio datagram: its first header and its length.

    Returns:
        The newest packet's header and the redundancy factor r (length / packet size).

    Raises:
        PeerError: a control-sized datagram, a bad header, or a length that is no
            whole number of full packets.
    """
    if len(data) == EXIT_BYTES:
        raise PeerError(f"length: {EXIT_BYTES} bytes are reserved for control")
    header = parse_header(data)
    redundancy, rest = divmod(len(data), header.packet_bytes)
    if rest or redundancy < 1:
        raise PeerError(
            f"length: {len(data)} bytes is no multiple of the packet's {header.packet_bytes}"
        )
    return header, redundancy


def is_exit(data: bytes | memoryview) -> bool:
    """Whether a datagram is the good-bye: 63 bytes, all 0xff."""
    return len(data) == EXIT_BYTES and bytes(data) == EXIT_PACKET


def sequence_step(newer: int, older: int) -> int:
    """Signed distance of two 16-bit packet numbers: −32768..32767, right across the wrap."""
    return ((newer - older + 0x8000) & 0xFFFF) - 0x8000


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says of itself over TCP.

    Attributes:
        udp_port: the port it is going to bind (informational: NATs change it), or
            Answer.AUTH from a client that wants to authenticate.
        name: sanitised name, possibly empty.
        named: whether the 64 name bytes came (clients from 1.3.0 on).
        account: user name it has proved with a password, or nothing.
    """

    udp_port: int
    name: str
    named: bool
    account: str = ""

    @property
    def wants_auth(self) -> bool:
        return self.udp_port == Answer.AUTH


class HelloReader:
    """Collects a client's hello from chunks of any size.

    ``receive`` takes bytes, ``hello`` is the result so far: None until the port is
    known; ``complete`` says that nothing more can come. A port of 0 means 'not yet'
    and the next four bytes are taken instead, as the original hub does.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._zeros = 0

    MAX_ZERO_PORTS = 16

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer.

        Raises:
            PeerError: nothing but zero ports, over and over.
        """
        self._buffer += data[: HELLO_BYTES + 4 * self.MAX_ZERO_PORTS - len(self._buffer)]
        while len(self._buffer) >= 4 and self._port() == 0:
            if self._zeros == self.MAX_ZERO_PORTS:
                raise PeerError("hello: port 0 again and again")
            self._zeros += 1
            del self._buffer[:4]

    def _port(self) -> int:
        return int(struct.unpack_from("<i", self._buffer)[0])

    @property
    def portless(self) -> bool:
        """Whether ``hello`` is None."""
        return len(self._buffer) < 4

    @property
    def complete(self) -> bool:
        if self.portless:
            return False
        return self._port() == Answer.AUTH or len(self._buffer) >= HELLO_BYTES

    @property
    def hello(self) -> Hello | None:
        if self.portless:
            return None
        port = self._port()
        if port == Answer.AUTH:
            return Hello(port, "", False)
        named = len(self._buffer) >= HELLO_BYTES
        name = parse_name(bytes(self._buffer[4:HELLO_BYTES])) if named else ""
        return Hello(port & 0xFFFF, name, named)


def pack_hello(udp_port: int, name: str | None) -> bytes:
    """Encode a hello; name None makes the 4-byte form of clients up to 1.2.2."""
    port = struct.pack("<i", udp_port)
    if name is None:
        return port
    return port + encode_name(name)


def encode_name(name: str) -> bytes:
    """UTF-8, zero-padded to 64 bytes, at most 63 of text, cut at a character border."""
    text = name.encode()[: NAME_BYTES - 1].decode(errors="ignore").encode()
    return text.ljust(NAME_BYTES, b"\0")


def parse_name(field: bytes) -> str:
    """Text of a 64-byte name field: up to the first zero, one printable line, trimmed.

    Control, format, surrogate and private characters are dropped; bytes that are no
    UTF-8 become U+FFFD; inner white space becomes single spaces.
    """
    text = field[:NAME_BYTES].split(b"\0", 1)[0].decode("utf-8", errors="replace")
    text = unicodedata.normalize("NFC", text)
    if not text.isprintable():
        text = "".join(" " if c.isspace() else c for c in text if _printable(c))
    return " ".join(text.split())


def _printable(char: str) -> bool:
    return char.isspace() or unicodedata.category(char)[0] != "C"


def pack_answer(value: int) -> bytes:
    """Encode the hub's answer: a UDP port or an ``Answer`` code."""
    return struct.pack("<i", value)


def parse_answer(data: bytes) -> int:
    """Decode the hub's 4-byte answer.

    Raises:
        PeerError: not exactly four bytes.
    """
    if len(data) != 4:
        raise PeerError(f"answer: {len(data)} bytes, 4 wanted")
    return int(struct.unpack("<i", data)[0])


def rate_code(rate_hz: int) -> int:
    """Code of a sample rate as JackTrip sends it: within ±99 Hz, and never 6."""
    for code, listed in enumerate(RATES_HZ):
        if abs(rate_hz - listed) < 100 and listed != 192000:
            return code
    return RATE_UNDEFINED


def default_udp_base(tcp_port: int) -> int:
    """First UDP port of a hub on this TCP port: both shift together."""
    return DEFAULT_UDP_BASE + tcp_port - DEFAULT_TCP_PORT
