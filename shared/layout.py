"""Layout of the arena: the one piece of memory that all processes of a hub share.

Offsets are derived, each section from the one before it; this diagram is the map::

    +--------------------------------------------------------------------------+
    | header    1 x HEADER    what this arena is; written once, before any fork |
    | control   1 x CONTROL   hub-wide settings                    (supervisor) |
    | clock     1 x CLOCK     ticks and their counters                  (mixer) |
    | lanes     17 x LANE     a transmit lane's counters          (lane i only) |
    | slots     S x SLOT      who a slot is for, its gain, orders  (supervisor) |
    | rx        S x RX        format, timeline, watermark, counters (receiver i)|
    | tx        S x TX        return stream's numbering, counters (one lane each)|
    | pair      S x S float32 level of source (column) for listener (row);      |
    |                         NaN = as the preset says             (supervisor) |
    | pair_pan  S x S float32 its place for it: 2 + pan / 100; 0 = none, -1 = told of, |
    |                         but without a place                  (supervisor) |
    | monitors  S x MONITOR   monitor mixes, that listeners share  (supervisor) |
    | monitor_pair, monitor_pan  S x S float32 each, as pair and pair_pan, of a |
    |                         monitor mix (row)                    (supervisor) |
    | buses     D x C x P float64   sum of all strips, D ticks deep     (mixer) |
    | voices    D x S uint8   channels a source has in that tick, 0: none (mixer) |
    | strips    D x S x C x P float32  sources after their strip gain   (mixer) |
    | jack      1 x JACK      a local JACK graph: its cycles, its state         |
    |                                                 (JACK bridge; line 2 mixer) |
    | jack_groups  G x JACK_GROUP  which ticks' sound of JACK is there (JACK bridge)|
    | jack_in   D x G x C x P float32  JACK's sound, for who hears it  (JACK bridge)|
    | lines     S x C x R float32   packets on the client's own timeline  (receiver)|
    | rings     S x C x R float32   input rings on the hub's timeline (receiver)|
    | packets   S x B uint8   return packets being filled     (one lane a slot) |
    +--------------------------------------------------------------------------+
    S slots, C = 16 channels, P frames a period, R = 65536 frames, D = 4 ticks,
    G = S JACK clients, or as many as there may be sections

Memory is only backed where it was touched: an unused slot or channel costs nothing.
Every record is made of 64-byte cache lines and no line has two writers, so that no
worker slows another by writing. Fields that one process writes and another waits
for are int64 and go through ``shared.atomics``.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from shared.jacklayout import JACK as JACK
from shared.jacklayout import JACK_GROUP as JACK_GROUP
from shared.jacklayout import JACK_NAME_BYTES as JACK_NAME_BYTES
from shared.jacklayout import JackState as JackState
from shared.jacklayout import jack_groups as jack_groups
from shared.limits import MAX_LANES as MAX_LANES
from shared.limits import Concealed as Concealed
from shared.limits import DriftMode as DriftMode
from shared.limits import GuardMode as GuardMode
from shared.limits import PatchMode as PatchMode
from shared.limits import Shed as Shed
from shared.limits import Underrun as Underrun
from shared.protocol import MAX_CHANNELS
from shared.records import CACHE_LINE as CACHE_LINE
from shared.records import F64, I64, record
from shared.records import STRIP_DEPTH as STRIP_DEPTH

MAGIC = 0x7475747469687562
"""'tuttihub' in ASCII."""
LAYOUT_VERSION = 19
"""Raised with every change of what follows; a test knows which layout each one is of."""

PAGE = 4096
RING_FRAMES = 65536
"""Capacity of an input ring; a client uses the smallest power of two that holds its queue."""
MIN_RING_FRAMES = 4096
PACKET_AREA = 2 * 65536
"""Room for one datagram being sent and one packet being filled."""

BLOCK_PACKETS = 64
"""Packets whose arrivals are judged together by the drift loop, at most."""
TRIAL_SLOTS = 64
"""Means of a client's way, from which a steady drift is told from steps, at most."""
LATE_BUCKETS = 256
"""Of the histogram of lateness that automatic depth reads."""

HISTOGRAM_BUCKETS = 14
HISTOGRAM_EDGES_NS = np.array([25_000 << k for k in range(HISTOGRAM_BUCKETS - 1)], np.int64)
"""Upper edges of every time histogram: 25 µs, doubling to 102 ms; the last bucket is open."""


class RxState(IntEnum):
    """How far a client has come, as its receiver sees it."""

    IDLE = 0
    WAITING = 1
    """The port was answered; no valid datagram yet."""
    KNOCKING = 2
    """Peer and format are known; the supervisor has yet to admit."""
    ACTIVE = 3
    ENDED = 4


class EndReason(IntEnum):
    """Why a session ended."""

    NONE = 0
    CLIENT_EXIT = 1
    SILENCE = 2
    NO_UDP = 3
    KICKED = 4
    HUB_STOP = 5
    REPLACED = 6
    WRONG_RATE = 7
    """None that can be converted."""
    FAILED = 8
    TOO_LARGE = 9
    """What it wants to receive does not fit into a datagram."""
    OVERLOAD = 10
    """The hub has too much to do, and it came last."""


class StopOrder(IntEnum):
    """Orders to a receiver in ``SLOT.stop``."""

    NONE = 0
    KICK = 1
    """Say good-bye to the client, then end."""
    SILENT = 2
    """End without a word: the address belongs to a newer session."""


class EndpointSlot(IntEnum):
    """What the slots are for where no hub is but one end of a connection."""

    PEER = 0
    """The other side, which a receiver listens to."""
    DEVICE = 1
    """This machine's sound: its ring is what is to be sent, its line what is played, up to the
    tick that its TX record names."""
    STREAM = 2
    """What is sent: format, address and numbering of this side's packets."""


_HISTOGRAM = (HISTOGRAM_BUCKETS,)

HEADER = record(
    [
        ("magic", I64),
        ("layout_version", I64),
        ("bytes", I64),
        ("slots", I64),
        ("rate_hz", I64),
        ("period_frames", I64),
        ("rate_code", I64),
        ("pid", I64),  # the hub's supervisor when it was made
        ("created_ns", I64),  # CLOCK_REALTIME
        ("lanes", I64),  # separate transmit lanes; 0: the mixer sends
        ("upmix", I64),
        ("cores", I64),  # that the receivers share
        ("guard_ns", I64),  # a receiver conceals this long before the tick
        ("underrun", I64),  # Underrun: what a gap is filled with
        ("drift", I64),  # DriftMode
        ("match_clients", I64),  # 1: return streams leave at each client's own rate
        ("pacing", I64),  # 1: return packets leave evenly, not all with the tick
        ("level_guard", I64),  # GuardMode
        ("mono_centre", I64),  # 1: mono sources sound from the centre
        ("downmix", F64),  # what mono listeners hear of left plus right; 0: left alone
        ("endpoint", I64),  # 1: no hub but one end of a connection, with an EndpointSlot each
        ("jack", I64),  # 1: there is a JACK bridge
    ],
    [
        ("t0_ns", I64),  # CLOCK_MONOTONIC of tick 0; moved by the mixer while JACK is its clock
    ],
)

CONTROL = record(
    [
        ("stop", I64),  # 1: everybody ends; receivers say good-bye
        ("patch", I64),  # PatchMode
        ("slots_high", I64),  # one more than the highest slot in use
        ("limiter", I64),  # 1: return streams are limited
        ("master", F64),  # gain of everything that is sent
        ("levels", I64),  # odd while levels are written, raised again once they are
        ("monitors_high", I64),  # one more than the highest monitor mix in use
        ("hub_changes", I64),  # times that patch or master were ordered anew
        ("hub_fade", I64),  # ticks that the last takes; 0, 1: one
        ("shed", I64),  # Shed: what everybody leaves out
    ],
    [("mail", I64, (MAX_LANES + 1,))],  # messages sent so far to lane i (0: the mixer as a lane)
)

CLOCK = record(
    [
        ("tick", I64),  # newest published
        ("futex", I64),  # its low bits, to wake lanes
        ("mixed", I64, (STRIP_DEPTH,)),  # which ticks the buses and strips are of
    ],
    [  # what the mixer has read of the levels, for the lanes to go by in the same tick
        ("levels", I64, (STRIP_DEPTH,)),
        ("patch", I64, (STRIP_DEPTH,)),
        ("master", F64, (STRIP_DEPTH,)),
        ("levels_read", I64),  # CONTROL.levels of the newest tick
    ],
    [
        ("pid", I64),
        ("started_ns", I64),
        ("ticks", I64),  # ticks mixed
        ("missed", I64),  # ticks skipped because the mixer came too late
        ("overruns", I64),  # ticks whose work took longer than a period
        ("sources", I64),  # active sources in the last tick
        ("starved", I64),  # source-ticks without samples in time
        ("waited", I64),  # ticks that waited for receivers
        ("waited_ns", I64),
        ("work_ns", I64),
        ("mix_ns", I64),  # of the work: reading sources and summing buses
        ("lateness_ns", I64),
        ("lateness_max_ns", I64),
    ],
    [("lateness", I64, _HISTOGRAM)],
    [("work", I64, _HISTOGRAM)],
)

LANE = record(
    [
        ("pid", I64),
        ("started_ns", I64),
        ("ticks", I64),
        ("missed", I64),  # ticks that were no longer readable when the lane came
        ("listeners", I64),  # served in the last tick
        ("work_ns", I64),
        ("sent_ns", I64),  # from tick time to the send of the last packet that left with it, summed
        ("paced", I64),  # packets sent between ticks
        ("levels_read", I64),  # CLOCK.levels of the last tick that was served
        ("mail_ns", I64),  # of the work: reading mail
        ("paced_ns", I64),  # and sending between ticks; the rest is rendering and sending
    ],
    [("work", I64, _HISTOGRAM)],
)

SLOT = record(
    [
        ("session", I64),  # number of the session that owns the slot; 0: free
        ("peer_high", I64),  # source address as IPv6 (IPv4 mapped), raw bytes 0..7
        ("peer_low", I64),  # and bytes 8..15
        ("ipv6", I64),  # 1: the socket is AF_INET6
        ("queue_packets", I64),  # 0: auto; below 0: so many milliseconds
        ("headroom_ns", I64),  # with auto: that much more than needed
        ("admit", I64),  # session number once the supervisor let it in
        ("stop", I64),  # StopOrder
        ("gain", F64),  # strip gain, linear, mute included
    ],
    [
        ("overrides", I64),  # sources of which this listener's rows of `pair`, `pair_pan` tell
        ("held", I64),  # 1: waits to be admitted by somebody, and is sent silence meanwhile
        ("guard_released", I64),  # session that the guard leaves alone
        ("monitor", I64),  # monitor mix that it hears in the place of the bus; 0: none
        ("connected", I64),  # session whose socket is connected to its client; 0: none
    ],
    [
        ("panned", I64),  # 1: it has a place of its own between left and right
        ("pan_left", F64),  # gains of a mono source in channels 1 and 2 when it has
        ("pan_right", F64),
        ("balance_left", F64),  # and of a source with more channels
        ("balance_right", F64),
    ],
    [  # changes are read when CONTROL.levels is even and has moved
        ("strip_changes", I64),  # times that its strip was ordered anew
        ("strip_fade", I64),  # ticks that the last change takes; 0, 1: one
        ("row_changes", I64),  # and its monitor mix or its rows of `pair` and `pair_pan`
        ("row_fade", I64),
        ("limited", I64),  # 1: what it is sent is limited; 2: is not; 0: as CONTROL.limiter says
        ("underrun", I64),  # 1 + Underrun for this client; 0: as HEADER.underrun says
    ],
    [("jack_group", I64)],  # 1 + the JACK client that is its own, or that it shares; 0: none
    [("jack_name", np.uint8, (JACK_NAME_BYTES,))],  # what that is to be called, UTF-8
)
MONITOR = record(
    [
        ("overrides", I64),  # sources of which its rows of `monitor_pair`, `monitor_pan` tell
        ("row_changes", I64),
        ("row_fade", I64),
    ]
)

RX = record(
    [
        ("state", I64),
        ("session", I64),
        ("end_reason", I64),
        ("pid", I64),
        ("peer_port", I64),
        ("frames", I64),  # per packet, at the client's own rate
        ("rate_code", I64),
        ("bits", I64),
    ],
    [
        ("channels", I64),  # the client sends
        ("wants", I64),  # the client wants to receive
        ("redundancy", I64),  # packets per datagram
        ("ring_frames", I64),  # part of the ring in use, a power of two
        ("depth_frames", I64),  # hub frames wanted from the play position to a packet's end
        ("started_ns", I64),
        ("joined_ns", I64),
        ("sockaddr_bytes", I64),
        ("heir", I64),  # pid of a receiver that asks for this client; 0: none does
    ],
    [  # its sample rate: workers.rates
        ("rate_hz", I64),  # nominal, or as measured; 0: not known yet
        ("span", F64),  # hub frames that a packet lasts
        ("nominal_step", I64),  # `step` while its clock agrees with the hub's
        ("filter", I64),  # which one of its receiver's; 0: its rate is the hub's
        ("lookahead", I64),  # line frames beyond a position that the filter must know
        ("pace_packets", I64),  # measured so far, of a client whose rate is undefined
        ("pace_began_ns", I64),
        ("pace_last", I64),  # the newest packet's number
        ("pace_number", I64),  # and how many it is since the measuring began
    ],
    [("pace_sums", F64, (5,))],  # of times t, numbers n, t², t·n, n²
    [("sockaddr", np.uint8, (32,))],
    [
        ("watermark", I64),  # hub samples below it are final
        ("resting", I64),  # 1: a gap so long that it is silent; beyond the watermark is silence
    ],
    [  # timeline: packet base_sequence starts at line position base_position
        ("base_sequence", I64),  # extended beyond 16 bits
        ("base_position", I64),
        ("highest", I64),  # extended sequence of the newest packet
        ("accounted", I64),  # packets below it are counted as received or lost
        ("gap_start", I64),  # line position where concealment began; -1: none running
        ("blend_start", I64),  # line position where real frames fade in, up to conceal_end
        ("arrival_ns", I64),  # of the newest packet, CLOCK_MONOTONIC
        ("valid_ns", I64),  # of the last valid datagram
    ],
    [
        ("late_run", I64),
        ("late_since_ns", I64),
        ("slack_min", I64),
        ("slack_since_ns", I64),
        ("looked_ns", I64),  # when its receiver looked after it last
        ("shed", I64),  # CONTROL.shed at that time
    ],
    [  # packet numbers that do not go on from the newest: workers.numbering
        ("odd_run", I64),  # how many, one after the other
        ("odd_first", I64),
        ("odd_next", I64),
        ("odd_echo", I64),  # how often newer ones came between
        ("odd_since_ns", I64),
        ("odd_last_ns", I64),
        ("copies", I64),  # another number of packets per datagram than that of old
        ("copies_run", I64),  # how many datagrams had it, one after the other
    ],
    [  # a client whose port changed: workers.moves
        ("stamp_us", I64),  # TimeStamp of the packet it was learnt from last, once a second
        ("stamp_ns", I64),  # and when that came; 0: none yet
        ("stamp_steady", I64),  # 1: that went on from the one before as a clock does
        ("own_ns", I64),  # when the last packet came from the client's port
        ("move_port", I64),  # where packets come from that may be the client's
        ("move_run", I64),  # how many so far
        ("move_next", I64),
        ("move_last_ns", I64),
    ],
    [
        ("datagrams", I64),
        ("bytes", I64),
        ("packets", I64),  # first copies of a packet
        ("lost", I64),  # never came
        ("late", I64),  # came after they were due
        ("duplicates", I64),
        ("reordered", I64),
        ("repaired", I64),  # came only as a redundant copy, in time
        ("malformed", I64),
        ("foreign", I64),
        ("concealed_frames", I64),
        ("underruns", I64),  # gaps, of any length
        ("overflows", I64),  # times that audio was skipped to shorten the queue
        ("overflow_frames", I64),
        ("restarts", I64),  # times the timeline was set anew
        ("kernel_drops", I64),
        ("sanitised", I64),  # samples of 32-bit clients that were no audio
        ("garbage_packets", I64),  # muted, since a broken 32-bit sender made them
        ("wakeups", I64),
    ],
    [
        ("peak", F64),  # of the last level window, linear
        ("rms", F64),
        ("window_peak", F64),
        ("window_squares", F64),
        ("window_frames", I64),
        ("jitter_ns", I64),
    ],
    [("jitter", I64, _HISTOGRAM)],
    [  # from the client's timeline (its line) to the hub's: workers.playout
        ("filled", I64),  # line frames below it are final
        ("read_frame", I64),  # line position of the hub sample at the watermark: whole frames
        ("read_phase", I64),  # and 2^-32 of a frame
        ("step", I64),  # line frames a hub frame, beyond 1, in 2^-32 of a frame
        ("resampling", I64),  # workers.playout: COPYING, GLIDING or FOLLOWING
        ("conceal_end", I64),  # extrapolated sound in the line ends here
        ("bridge_start", I64),  # line position of the gap, perhaps only of one to be, that is
        ("bridge_end", I64),  # filled with sound that leads up to the real sound here; -1: none
        ("glide", I64),  # hub frames left of a change of delay: > 0 adds, < 0 takes away
        ("owed", I64),  # hub frames of delay to add (> 0) or take away, since -q was changed
        ("queue_packets", I64),  # as the slot asked last
        ("underrun", I64),  # the same
        ("margin_frames", I64),  # how late a packet may be and still be in time, hub frames
    ],
    [  # the client's clock: workers.drift
        ("clock_ratio", F64),  # its nominal seconds a second of the hub's, beyond 1
        ("clock_sigma", F64),  # standard error of that
        ("clock_offset", F64),  # hub frame at which the packet clock_number should have come
        ("clock_number", I64),
        ("clock_blocks", I64),  # blocks of packets seen since the loop began
        ("clock_certain", I64),  # 1: the drift is no accident of jitter
        ("clock_residue", F64),  # mean square of what the loop did not foresee, frames^2
        ("clock_moved", F64),  # frames by which the client has drifted since the loop began
        ("clock_var_offset", F64),  # frames^2, as of clock_number
        ("clock_covariance", F64),  # of offset and slowness
        ("clock_var_ratio", F64),
        ("clock_alike", F64),  # mean product of neighbouring blocks' errors, frames^2
        ("clock_rough", F64),  # mean of half the squares of their differences, frames^2
        ("clock_error", F64),  # of the last block, frames
        ("clock_steps", I64),  # times that the path's delay took a step; -1: it begins anew
        ("clock_began", F64),  # hub frame
        ("clock_torn", I64),  # 1: while what the clock knows is being changed
        ("calm_blocks", I64),  # in a row whose errors are too small for clock_residue
        ("calm_square", F64),  # the greatest of these, frames^2
    ],
    [  # outliers in a row, and the trial whether the drift is certain
        ("run_blocks", I64),
        ("run_began", F64),
        ("run_gate", F64),  # that the first of them did not pass, frames
        ("run_mean", F64),
        ("run_variance", F64),
        ("trial_began", F64),
        ("trial_origin", F64),  # way of the client when it began
        ("trial_slot_s", F64),  # that a slot of it lasts
        ("trial_slots", I64),  # that are over
        ("trial_blocks", I64),  # seen in the one at hand
        ("trial_time", F64),  # sums over those: hub frames since it began
        ("trial_way", F64),  # and since then
        ("trial_all", I64),  # blocks in all its slots
        ("trial_straight", F64),  # its age since when it is a straight line; below 0: it is none
        ("trial_contrary", F64),  # its age since when the ratio is above (> 0) or below (< 0) the
        # recent way's slope; 0: it is neither
    ],
    [("trial_times", F64, (TRIAL_SLOTS,)), ("trial_ways", F64, (TRIAL_SLOTS,))],  # their means
    [  # the block of packets being collected, sorted
        ("block_count", I64),
        ("block_began", F64),
        ("block_numbers", F64),  # sum of their numbers beyond clock_number
    ],
    [("block", F64, (BLOCK_PACKETS,))],
    [  # how late packets are: workers.depth
        ("late_weight", F64),  # of the next packet; all earlier ones count for less
        ("late_total", F64),
        ("late_beyond", F64),  # of the total, later than the bucket wanted
        ("late_wanted", F64),  # hub frames; covers all but one packet in so many
        ("late_bucket", I64),  # that is
        ("late_stalled", I64),  # 1: what comes was held up, and says nothing of jitter
        ("late_steps", I64),  # clock_steps that are known
        ("late_kept", F64),  # weight at which the histogram was last kept
    ],
    [("late_histogram", F64, (LATE_BUCKETS,))],
    [("late_before", F64, (2, LATE_BUCKETS))],  # the same, at least one and two seconds ago
    [  # a 32-bit client's sender: workers.garbage
        ("garbage", I64),  # 1: it is the broken one; nothing of it is heard
        ("garbage_run", I64),  # packets of garbage in a row
        ("sound_run", I64),  # and of sound
        ("muted_end", I64),  # line position where the last muted packet ended
        ("sound_end", I64),  # and the last that was heard
    ],
    [  # by channel, of the level window
        ("channel_peaks", F64, (MAX_CHANNELS,)),
        ("channel_squares", F64, (MAX_CHANNELS,)),
        ("channel_sums", F64, (MAX_CHANNELS,)),
    ],
    [  # noise and stuck tones: workers.guard
        ("guard", I64),  # Noticed
        ("guarded", I64),  # times that something was
        ("guard_run", I64),  # windows in a row that look like it
        ("guard_calm", I64),  # and that do not, since it was noticed
        ("guard_rms", F64),  # of the first window of the run
        ("cut", F64),  # what the mixer takes off the strip's gain, 0..1
    ],
    [  # constant offsets: workers.offset
        ("offsets", I64),  # channels they are taken out of
        ("offset_frames", I64),  # of the second being summed
        ("offset_pole", F64),
        ("offset_step", F64),
        ("offset_wanted", F64, (MAX_CHANNELS,)),  # weight the filter is to have
        ("offset_weights", F64, (MAX_CHANNELS,)),  # and has
        ("offset_means", F64, (MAX_CHANNELS,)),  # running
        ("offset_sums", F64, (MAX_CHANNELS,)),
        ("offset_before", F64, (MAX_CHANNELS,)),  # mean of the last second
        ("offset_calm", I64, (MAX_CHANNELS,)),  # seconds without one
    ],
    [  # audible consequences
        ("bridged", I64),  # gaps filled between known sound on both sides
        ("glided_frames", I64),  # delay added or taken away by resampling
        ("grown_frames", I64),  # delay added at once, in a gap
        ("moves", I64),  # times that the client's port changed and it was followed
        ("engaged", I64),  # times that resampling began
        ("concealed_by", I64),  # Concealed: how the running gap is filled
        ("concealed", I64, (len(Concealed),)),  # concealed_frames, by Concealed
    ],
    [  # what tells one trouble from another: hub.conditions
        ("foreign_high", I64),  # where the last foreign datagram came from: as SLOT.peer_high,
        ("foreign_low", I64),  # peer_low
        ("foreign_port", I64),
        ("odd_bytes", I64),  # length of the last malformed datagram
        ("odd_header", I64),  # and bytes 8..15 of it, raw; 0: it had none
    ],
    [  # level windows, a tenth of a second each: workers.line
        ("windows", I64),
        ("silent_windows", I64),  # not a sample but 0
        ("faint_windows", I64),  # a peak below FAINT, the silent ones among them
        ("full_windows", I64),  # a sample at full scale or beyond
        ("window_sounding", I64),  # bit i: channel i reached FAINT in the running window
        ("sounding", I64),  # and in the last one
    ],
)

TX = record(
    [
        ("session", I64),
        ("sequence", I64),
        ("fill_frames", I64),  # of the packet being filled
        ("bus_gain", F64),
        ("self_gain", F64),
        ("last_tick", I64),
        ("redundancy", I64),  # packets per datagram the area was last laid out for
        ("hold", F64),  # hub frames by which a packet that ends with its tick is held back
    ],
    [
        ("packets", I64),
        ("bytes", I64),
        ("errors", I64),
        ("clipped", I64),
        ("peak", F64),
        ("rms", F64),
        ("window_peak", F64),
        ("window_squares", F64),
        ("window_frames", I64),
        ("limiter_cut", F64),  # 1 - the limiter's gain
        ("limiter_hold", I64),  # frames before that may rise
        ("limited_frames", I64),  # frames that were reduced
    ],
)


def sections(slots: int, period_frames: int) -> dict[str, tuple[int, np.dtype, tuple[int, ...]]]:
    """Offset, dtype and shape of every section, in order; 'end' holds the total size."""
    parts: list[tuple[str, np.dtype, tuple[int, ...]]] = [
        ("header", HEADER, (1,)),
        ("control", CONTROL, (1,)),
        ("clock", CLOCK, (1,)),
        ("lanes", LANE, (MAX_LANES + 1,)),
        ("slots", SLOT, (slots,)),
        ("rx", RX, (slots,)),
        ("tx", TX, (slots,)),
        ("pair", np.dtype(np.float32), (slots, slots)),
        ("pair_pan", np.dtype(np.float32), (slots, slots)),
        ("monitors", MONITOR, (slots,)),
        ("monitor_pair", np.dtype(np.float32), (slots, slots)),
        ("monitor_pan", np.dtype(np.float32), (slots, slots)),
        ("buses", np.dtype(np.float64), (STRIP_DEPTH, MAX_CHANNELS, period_frames)),
        ("voices", np.dtype(np.uint8), (STRIP_DEPTH, slots)),
        ("strips", np.dtype(np.float32), (STRIP_DEPTH, slots, MAX_CHANNELS, period_frames)),
        ("jack", JACK, (1,)),
        ("jack_groups", JACK_GROUP, (jack_groups(slots),)),
        (
            "jack_in",
            np.dtype(np.float32),
            (STRIP_DEPTH, jack_groups(slots), MAX_CHANNELS, period_frames),
        ),
        ("lines", np.dtype(np.float32), (slots, MAX_CHANNELS, RING_FRAMES)),
        ("rings", np.dtype(np.float32), (slots, MAX_CHANNELS, RING_FRAMES)),
        ("packets", np.dtype(np.uint8), (slots, PACKET_AREA)),
    ]
    table: dict[str, tuple[int, np.dtype, tuple[int, ...]]] = {}
    offset = 0
    for name, dtype, shape in parts:
        table[name] = (offset, dtype, shape)
        size = dtype.itemsize * int(np.prod(shape))
        offset += -(-size // PAGE) * PAGE
    table["end"] = (offset, np.dtype(np.uint8), (0,))
    return table
