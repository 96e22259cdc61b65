"""The whole examination, in the order in which a client would fail; see the package's docstring."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hub.doctor import concluding
from hub.doctor import findings as judged
from hub.doctor.advice import Measured, advise
from hub.doctor.findings import found
from hub.doctor.knock import Account, Answered, Door, Reached, Reply, reach, say_hello
from hub.doctor.line import Line
from hub.doctor.listening import Heard, common_header, listen, rate_of
from hub.doctor.mapping import Mapping, examine_mapping
from hub.doctor.names import resolve
from hub.doctor.playing import Ears, Form, Player, Take, take, undisturbed
from hub.doctor.report import (
    VERSION,
    AddressReport,
    Advice,
    Finding,
    HelloReport,
    HubFormat,
    PathReport,
    Report,
    RouterReport,
    TripReport,
    UdpReport,
)
from hub.doctor.sizes import SizeExamination
from hub.doctor.swallowed import Evidence, Investigation, judge
from hub.doctor.visit import REST_S, STILL_S, Hub, hears, leave
from hub.version import version
from shared.protocol import DEFAULT_TCP_PORT, RATES_HZ

START_S = 3.0
"""Until the hub's first packet; its own JACK may be slow to open."""
LATELY_S = 2.2
"""Of that, in which complaints count: before it JackTrip's hub opens its port three times, and a
machine complains once a second to each."""
GOOD_BYE_S = 0.6
"""A hub that does not like our form is silent by then after its first sound."""
CUT_S = 2.0
"""Nothing for so long, and the line is cut."""
FORMS = (
    (48_000, 16), (44_100, 16), (48_000, 24), (96_000, 16), (44_100, 24), (96_000, 24),
    (88_200, 16), (32_000, 16), (48_000, 8), (48_000, 32),
)  # fmt: skip
"""Rates and resolutions, the likeliest first: tried where a hub says good-bye as soon as it hears
us, as JackTrip's does to whatever is not its own."""
TAIL_S = 30.0
"""How much longer a session may go on than the measurement, for what is done meanwhile."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be examined.

    Attributes:
        bind_port: UDP port to play from, as JackTrip's; 0: any.
        channels, bits: that the musician is going to use.
    """

    host: str
    port: int = DEFAULT_TCP_PORT
    seconds: float = 15.0
    bind_port: int = DEFAULT_TCP_PORT
    channels: int = 2
    bits: int = 16
    name: str = "tuttihub doctor"
    account: Account | None = None
    marked: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the examination stands: what is done now, and how much of all of it is over."""

    step: str
    share: float


Tell = Callable[[Progress], None]


@dataclass(slots=True)
class Examination:
    """One examination; ``run`` makes its report."""

    wish: Wish
    tell: Tell = lambda progress: None
    findings: list[Finding] = field(default_factory=list)
    addresses: list[AddressReport] = field(default_factory=list)
    hello: HelloReport | None = None
    udp: UdpReport | None = None
    hub: HubFormat | None = None
    path: PathReport | None = None
    router: RouterReport | None = None
    trip: TripReport | None = None
    heard: Heard | None = None
    advice: Advice | None = None
    _mirrors: bool | None = None
    _players: list[Player] = field(default_factory=list)

    def run(self) -> Report:
        """Examine, until something is found that makes the rest pointless.

        Raises:
            OSError: this machine would not open a socket.
        """
        at_s = time.time()
        reached = self._reach()
        if reached is not None:
            with undisturbed():
                self._visit(reached)
        verdict, code = judged.verdict_of(self.findings)
        heard = self.heard
        return Report(
            v=VERSION,
            tuttihub=version(),
            host=self.wish.host,
            port=self.wish.port,
            at_s=at_s,
            seconds=self.wish.seconds,
            verdict=verdict.value,
            exit_code=int(code),
            findings=self.findings,
            addresses=self.addresses,
            hello=self.hello,
            udp=self.udp,
            hub=self.hub,
            path=self.path,
            router=self.router,
            trip=self.trip,
            there=heard.there if heard else None,
            back=heard.back if heard else None,
            advice=self.advice,
        )

    def _find(self, slug: str, detail: str = "") -> None:
        self.findings.append(found(slug, detail))

    def _step(self, text: str, share: float) -> None:
        self.tell(Progress(text, share))

    # --- names and TCP ---

    def _reach(self) -> Reached | None:
        """The address to go to; None: there is none, and it has been said why."""
        self._step("looking up the name", 0.0)
        names = resolve(self.wish.host)
        if not names.addresses:
            self._find(concluding.name_fault(names), names.said)
            return None
        self._step("knocking", 0.02)
        tried = reach(names.addresses, self.wish.port)
        self.addresses = [concluding.address_report(each) for each in tried]
        opened = next((each for each in tried if each.door is Door.OPEN), None)
        if opened is None:
            worst = tried[0]
            self._find(concluding.DOORS[worst.door], f"{worst.address.text}: {worst.said}")
        elif opened is not tried[0]:
            self._find(
                "first-address-dead",
                f"{tried[0].address.text}: {tried[0].said}; {opened.address.text} answers",
            )
        return opened

    # --- UDP ---

    def _visit(self, reached: Reached) -> None:
        wish = self.wish
        hub = Hub(reached.address, wish.port, wish.name, wish.account)
        line = self._line(reached)
        ears = Ears(line)
        try:
            form = Form(channels=wish.channels, bits=wish.bits, marked=wish.marked)
            first = self._begin(hub, line, form)
            if first is not None:
                self._listen(reached, hub, line, ears, first)
        finally:
            for player in self._players:
                if player.playing:
                    leave(player, ears)
            ears.close()
            line.close()

    def _line(self, reached: Reached) -> Line:
        try:
            return Line(reached.address, self.wish.bind_port)
        except OSError as error:
            if not self.wish.bind_port or error.errno != errno.EADDRINUSE:
                raise
            self._find("local-port-busy", f"UDP {self.wish.bind_port}: {error.strerror}")
            return Line(reached.address)

    def _begin(self, hub: Hub, line: Line, form: Form) -> Player | None:
        """Be let in and play; None: we were not, and it has been said why."""
        self._step("saying hello", 0.04)
        answered, player = hub.begin(line, form, self.wish.seconds + TAIL_S)
        self.hello = concluding.hello_report(answered)
        if player is None:
            self._find(self._refusal(hub, line, answered), answered.said)
        else:
            self._players.append(player)
        return player

    def _refusal(self, hub: Hub, line: Line, answered: Answered) -> str:
        if answered.reply is Reply.CLOSED and hub.account is None:
            nameless = say_hello(hub.address, hub.port, line.port, None)
            if nameless.reply is Reply.PORT:
                return "name-refused"
        return concluding.REPLIES[answered.reply]

    def _listen(self, reached: Reached, hub: Hub, line: Line, ears: Ears, player: Player) -> None:
        """From the first packet on."""
        self._step("waiting for sound", 0.06)
        hears(ears, player, START_S - LATELY_S)
        line.hear_complaints()
        before = len(line.complaints)
        hears(ears, player, LATELY_S)
        line.hear_complaints()
        made = take(player, ears, line)
        if not made.headers and made.good_bye_ns is None:
            evidence = Investigation(
                hub, line, ears, player, lambda text: self._step(text, 0.3)
            ).run(before)
            if not evidence.heard:
                player.stop(good_bye=False)
                self._find(judge(evidence), concluding.evidence_words(evidence))
                self.udp = concluding.udp_report(line.port, evidence, None, None)
                return
            made = take(player, ears, line)
        wanted = self._other_forms(made)
        if wanted:
            leave(player, ears)
            other = self._in_other_forms(hub, line, ears, wanted)
            if other is not None:
                self._measure(reached, hub, line, ears, other)
        else:
            self._measure(reached, hub, line, ears, player)

    def _other_forms(self, made: Take) -> tuple[Form, ...]:
        """In which forms to try again, if the hub does not play in ours."""
        form = made.form
        header = common_header(made)
        if header is not None:
            rate_hz = rate_of(header) or form.rate_hz
            if (rate_hz, header.bits) == (form.rate_hz, form.bits):
                return ()
            return (replace(form, rate_hz=rate_hz, bits=header.bits),)
        if made.good_bye_ns is None:
            return ()
        others = (each for each in FORMS if each != (form.rate_hz, form.bits))
        return tuple(replace(form, rate_hz=rate_hz, bits=bits) for rate_hz, bits in others)

    def _in_other_forms(
        self, hub: Hub, line: Line, ears: Ears, forms: tuple[Form, ...]
    ) -> Player | None:
        """Play in the first form that the hub takes; None: in none, and it has been said why."""
        for form in forms:
            self._step(f"trying {form.rate_hz} Hz, {form.bits} bit", 0.08)
            time.sleep(REST_S)
            player = self._begin(hub, line, form)
            if player is None:
                return None
            if hears(ears, player, START_S):
                time.sleep(GOOD_BYE_S)
                if ears.silent_s(player) < STILL_S:
                    return player
            leave(player, ears)
        self.udp = concluding.udp_report(line.port, Evidence(), None, None)
        self._find("format-refused")
        return None

    def _measure(self, reached: Reached, hub: Hub, line: Line, ears: Ears, player: Player) -> None:
        wish = self.wish
        end = time.monotonic() + wish.seconds
        cut = False
        while (left_s := end - time.monotonic()) > 0 and not cut:
            share = 0.1 + 0.7 * (1 - left_s / wish.seconds)
            self._step(f"listening, {left_s:.0f} s to go", share)
            time.sleep(min(left_s, 0.1))
            cut = ears.silent_s(player) > CUT_S
        if not cut and ears.silent_s(player) > 0.5:
            cut = not _comes_back(ears, player)
        made = take(player, ears, line)
        heard = self.heard = listen(made)
        ended_ns = heard.own.ended_ns if heard.own is not None else None
        if ended_ns is None and not cut:
            mapping = self._examine_more(hub, line, ears, player)
            leave(player, ears)
            self._conclude_sound(reached, made, mapping)
            self.udp = concluding.udp_report(line.port, Evidence(), heard.first_sound_s, None)
            self._advise(reached)
            return
        last_s = ((ended_ns or heard.last_ns) - int(made.sent_ns[0])) / 1e9
        self._conclude_sound(reached, made, Mapping(None, None))
        self.udp = concluding.udp_report(line.port, Evidence(), heard.first_sound_s, last_s)
        which = "what you send" if ended_ns is not None else "what the hub sends"
        self._explain_cut(hub, line, ears, made, f"{which} no longer arrives after {last_s:.1f} s")

    def _explain_cut(self, hub: Hub, line: Line, ears: Ears, made: Take, when: str) -> None:
        """What still works after sound has ended."""
        self._step("sound has ended: what still works?", 0.85)
        farewell = made.good_bye_ns is not None
        answered, again = hub.begin(line, made.form, START_S)
        if again is None:
            slug = "sent-away" if farewell else concluding.ENDS.get(answered.reply, "cut-off")
            self._find(slug, f"{when}; then: {answered.reply}")
            return
        self._players.append(again)
        same = hears(ears, again, START_S / 2)
        leave(again, ears)
        if same and farewell:
            self._find("sent-away", when)
            return
        if farewell:  # as a hub does it that has heard nothing for 10 s
            self._find("cut-off", f"{when}; the hub no longer hears you, and said good-bye")
            return
        if same:
            self._find("cut-off", f"{when}; a new session from the same port brings it back")
            return
        other = _from_another_port(hub, made.form)
        what = "only another port brings" if other else "not even another port brings"
        self._find("cut-off", f"{when}; {what} it back")

    # --- what it amounts to ---

    def _conclude_sound(self, reached: Reached, made: Take, mapping: Mapping) -> None:
        heard, form, wish = self.heard, made.form, self.wish
        assert heard is not None
        usual = Form(channels=wish.channels, bits=wish.bits)
        if heard.hub is not None:
            mirrors = self._mirrors if heard.hub.frames == form.frames else False
            self.hub = concluding.hub_format(heard.hub, mirrors, mapping.uses_redundancy)
            self.findings += judged.of_hub(self.hub, usual.rate_hz, usual.bits, form.frames)
        trips = heard.own.trips_ns if heard.own is not None else ()
        self.trip = concluding.trip_report(reached.took_s, trips)
        self.router = concluding.router_report(self.hello, mapping)
        self.findings += judged.of_trip(self.trip)
        if heard.back is not None and heard.hub is not None:
            period_s = heard.hub.frames / (heard.hub.rate_hz or form.rate_hz)
            self.findings += judged.of_back(heard.back, period_s)
        self.findings += judged.of_there(heard.there, form.period_s)
        if made.overflowed:
            self._find("own-machine-drops", f"{made.overflowed} packets")
        self.findings += judged.of_router(self.router, reached.address.text)

    def _examine_more(self, hub: Hub, line: Line, ears: Ears, player: Player) -> Mapping:
        """What needs further sessions, while the first one plays."""
        self._step("how long may packets be?", 0.82)
        first_s = self.heard.first_sound_s if self.heard is not None else None
        longer = SizeExamination(hub, player.form, first_s or 0.0)
        try:
            sizes = longer.examine()
            self._step("which port does the hub see?", 0.92)
            second = replace(player.form, redundancy=2, marked=False)
            mapping = examine_mapping(hub, line, ears, player, second)
        finally:
            longer.close()
        self.path = concluding.path_report(sizes, hub.address.is_ipv6)
        self._mirrors = sizes.mirrors
        self.findings += judged.of_sizes(sizes)
        return mapping

    def _advise(self, reached: Reached) -> None:
        heard, wish, hub, path = self.heard, self.wish, self.hub, self.path
        if heard is None or heard.back is None or hub is None:
            return
        there, back = heard.there, heard.back
        lost_there = there.lost_share or 0.0
        self.advice = advise(
            Measured(
                host=wish.host if self.addresses[0].tcp == "open" else reached.address.text,
                port=wish.port,
                channels=wish.channels,
                bits=hub.bits,
                rate_hz=hub.rate_hz or RATES_HZ[3],
                late_s=back.late.needed_s,
                sent_late_s=there.sent_late.needed_s,
                lost_share=max(back.lost_share, lost_there),
                runs=back.runs if back.lost_share >= lost_there else {},
                hub_frames=None if hub.mirrors else hub.frames,
                uses_redundancy=hub.uses_redundancy,
                longest_payload=path.longest_payload if path else None,
                round_trip_s=reached.took_s,
                sound_s=self.trip.sound_s if self.trip else None,
                authenticated=wish.account is not None,
            )
        )
        self._step("done", 1.0)


def _comes_back(ears: Ears, player: Player) -> bool:
    """Whether sound that has been missing for a moment comes again before it is called cut."""
    deadline = time.monotonic() + CUT_S
    while time.monotonic() < deadline:
        if ears.silent_s(player) < 0.5:
            return True
        time.sleep(0.05)
    return False


def _from_another_port(hub: Hub, form: Form) -> bool:
    line = Line(hub.address)
    ears = Ears(line)
    try:
        _, player = hub.begin(line, form, START_S)
        if player is None:
            return False
        heard = hears(ears, player, START_S / 2)
        leave(player, ears)
        return heard
    finally:
        ears.close()
        line.close()
