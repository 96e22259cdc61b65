"""What can be asked of a hub: a type an operation, in the order in which the docs have them.

Fields are checked by their types (``hub.messages.fields``); ``one_of`` are groups of fields of
which exactly one must be given.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args

from msgspec import UNSET, Meta, Struct, UnsetType, structs

from hub.messages import fields, results, state
from hub.messages.fields import MAX_BATCH, MAX_BATCH_PAIRS

R = TypeVar("R")

_GAIN = (("gain_db", "gain"),)
_BANNED = ("network", "account")


class Request(Struct, Generic[R], frozen=True, tag_field="op", forbid_unknown_fields=True):
    """A request that is answered with R."""

    one_of: ClassVar[tuple[tuple[str, ...], ...]] = ()


class Ping(Request[results.Pong], frozen=True, tag="ping"):
    """version and pid of the hub"""


class Status(Request[state.Status], frozen=True, tag="status"):
    """the whole state"""


class Clients(Request[results.Clients], frozen=True, tag="clients"):
    """the clients alone"""


class Patch(Request[results.Patched], frozen=True, tag="patch"):
    """who hears whom"""

    mode: fields.Mode


class Gain(Request[results.Gained], frozen=True, tag="gain", kw_only=True):
    """strip gain of a source, or what one listener gets of it; null takes the setting back"""

    one_of = _GAIN
    source: fields.Client
    listener: fields.Client | UnsetType | None = UNSET
    gain_db: fields.Decibels | UnsetType = UNSET
    gain: fields.Factor | UnsetType = UNSET


class Pan(Request[results.Panned], frozen=True, tag="pan"):
    """where a client stands between left and right ([levels.md](levels.md)); null or `default`
    takes the setting back"""

    client: fields.Client
    pan: fields.Pan


class Guard(Request[results.OfClient], frozen=True, tag="guard"):
    """let a client be that the guard has noticed, for the rest of its session"""

    client: fields.Client


class Limiter(Request[results.Limited], frozen=True, tag="limiter"):
    """limit every mix that is sent, or do not; or one client's (null: as everybody's)"""

    on: fields.TruthOrNull
    client: fields.Client | UnsetType = UNSET


class Mute(Request[results.Muted], frozen=True, tag="mute"):
    """silence a strip for everybody"""

    client: fields.Client
    muted: fields.Truth


class Queue(Request[results.Queued], frozen=True, tag="queue"):
    """how much of a client's sound waits for late packets: begun with its next packet; how long
    it takes: [networks.md](networks.md)"""

    client: fields.Client
    queue: fields.Queue


class Kick(Request[results.OfClient], frozen=True, tag="kick"):
    """end a session; it may come back"""

    client: fields.Client


class Lock(Request[results.Locked], frozen=True, tag="lock"):
    """newcomers stay outside; `changed`: whether that is news"""


class Unlock(Request[results.Locked], frozen=True, tag="unlock"):
    """newcomers may come in again"""


class WaitingRoom(Request[results.WaitingRoom], frozen=True, tag="waiting-room"):
    """newcomers wait to be admitted, or not; `held` is how many wait, and go on to"""

    on: fields.Truth


class Admit(Request[results.OfClient], frozen=True, tag="admit"):
    """out of the waiting room into the mix"""

    client: fields.Client


class Refuse(Request[results.OfClient], frozen=True, tag="refuse"):
    """out of the waiting room, away"""

    client: fields.Client


class Ban(Request[results.BanMade], frozen=True, tag="ban", kw_only=True):
    """keep somebody out, and kick whom it means: `kicked` (slots); `others` are here, and are kept
    out when they leave"""

    one_of = (("client", *_BANNED),)
    client: fields.Client | UnsetType = UNSET
    network: fields.Network | UnsetType = UNSET
    account: fields.Account | UnsetType = UNSET
    for_s: fields.BanSeconds = None
    reason: fields.Reason = ""


class Unban(Request[results.BanEnded], frozen=True, tag="unban", kw_only=True):
    """end a ban"""

    one_of = (_BANNED,)
    network: fields.Network | UnsetType = UNSET
    account: fields.Account | UnsetType = UNSET


class Bans(Request[results.Bans], frozen=True, tag="bans"):
    """those that stand; times are Unix times, null is for good"""


class Sections(Request[results.Sections], frozen=True, tag="sections"):
    """the sections"""


class Section(Request[results.Section], frozen=True, tag="section", kw_only=True):
    """make a section, or change who is in it: `members` are all of them"""

    name: fields.Name
    members: fields.Clients | UnsetType = UNSET
    add: fields.Clients | UnsetType = UNSET
    remove: fields.Clients | UnsetType = UNSET


class SectionRemove(Request[results.Named], frozen=True, tag="section-remove"):
    """end it, and all that is told of it"""

    name: fields.Name


class Hear(Request[results.Heard], frozen=True, tag="hear", kw_only=True):
    """what a listener or section hears of a source or section; null takes a setting back"""

    one_of = (("listener", "listener_section"), ("source", "source_section"))
    listener: fields.Client | UnsetType = UNSET
    listener_section: fields.Name | UnsetType = UNSET
    source: fields.Client | UnsetType = UNSET
    source_section: fields.Name | UnsetType = UNSET
    gain_db: fields.Decibels | UnsetType = UNSET
    gain: fields.Factor | UnsetType = UNSET
    pan: fields.Pan | UnsetType = UNSET
    muted: fields.TruthOrNull | UnsetType = UNSET
    soloed: fields.TruthOrNull | UnsetType = UNSET


class Hearing(Request[results.Hearing], frozen=True, tag="hearing"):
    """all that was told by `hear`"""


class Matrix(Request[results.MatrixSet], frozen=True, tag="matrix", kw_only=True):
    """all these pairs at once: a row of gains of all sources for each listener"""

    one_of = (("gains_db", "gains"),)
    listeners: fields.Clients
    sources: fields.Clients
    gains_db: fields.DecibelRows | UnsetType = UNSET
    gains: fields.FactorRows | UnsetType = UNSET


class Master(Request[results.Master], frozen=True, tag="master", kw_only=True):
    """the gain of all that is sent; null is 1"""

    one_of = _GAIN
    gain_db: fields.Decibels | UnsetType = UNSET
    gain: fields.Factor | UnsetType = UNSET


class Rename(Request[results.Renamed], frozen=True, tag="rename"):
    """show a client under another name"""

    client: fields.Client
    name: fields.Name


class Conceal(Request[results.Concealed], frozen=True, tag="conceal"):
    """what a client's gaps are filled with; null: as `--underrun` says"""

    client: fields.Client
    underrun: fields.Filling


class Scenes(Request[results.Scenes], frozen=True, tag="scenes"):
    """this scene, or of all the names and how much is in them"""

    name: fields.Name | UnsetType = UNSET


class SceneSave(Request[results.Kept], frozen=True, tag="scene-save"):
    """keep all levels under a name; `saved`: whether the file (`--scenefile`) has it"""

    name: fields.Name


class SceneRecall(Request[results.Recalled], frozen=True, tag="scene-recall"):
    """let the levels of a scene hold; faded to in so many seconds"""

    name: fields.Name
    seconds: fields.Seconds = 0.0


class SceneDelete(Request[results.Kept], frozen=True, tag="scene-delete"):
    """forget a scene; `saved` as above"""

    name: fields.Name


Batched = Patch | Gain | Pan | Mute | Section | SectionRemove | Hear | Matrix | Master
"""What may stand in a batch: levels, which go back to what they were should one be refused."""


def op_of(kind: type[Request[Any]]) -> str:
    """The operation's name."""
    return str(kind.__struct_config__.tag)


class Batch(Request[results.BatchDone], frozen=True, tag="batch"):
    """all of it, or nothing if one is refused"""

    requests: Annotated[
        list[Batched],
        Meta(
            min_length=1,
            max_length=MAX_BATCH,
            title="requests",
            description=f"a list of 1..{MAX_BATCH} of {', '.join(map(op_of, get_args(Batched)))}, "
            f"without v and id; matrices with up to {MAX_BATCH_PAIRS:,} gains together",
        ),
    ]


class Shutdown(Request[results.Stopping], frozen=True, tag="shutdown"):
    """end the hub as `Ctrl-C` would"""


ALL: tuple[type[Request[Any]], ...] = (
    Ping, Status, Clients, Patch, Gain, Pan, Guard, Limiter, Mute, Queue, Kick, Lock,
    Unlock, WaitingRoom, Admit, Refuse, Ban, Unban, Bans, Sections, Section, SectionRemove, Hear,
    Hearing, Matrix, Master, Rename, Conceal, Scenes, SceneSave, SceneRecall, SceneDelete, Batch,
    Shutdown,
)  # fmt: skip


@cache
def result_of(kind: type[Request[R]]) -> type[R]:
    """What the operation is answered with."""
    (base,) = (base for base in kind.__orig_bases__ if get_args(base))  # type: ignore[attr-defined]
    answer: type[R] = get_args(base)[0]
    return answer


OPS: dict[str, type[Request[Any]]] = {op_of(kind): kind for kind in ALL}
BATCHED: dict[str, type[Request[Any]]] = {op_of(kind): kind for kind in get_args(Batched)}


def fields_of(op: str) -> tuple[str, ...]:
    """Names of an operation's fields; none of an operation that there is not."""
    return tuple(field.name for field in structs.fields(OPS[op])) if op in OPS else ()
