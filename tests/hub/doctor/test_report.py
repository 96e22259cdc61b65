"""Words, schema and looks of reports; evidence and what it amounts to."""

from __future__ import annotations

import errno
import io
import json
import socket
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from rich.console import Console

from hub.doctor.findings import found, of_back, of_there, verdict_of
from hub.doctor.line import Complaint, Problem, parse_complaint
from hub.doctor.names import Address, NameFault, is_private, resolve
from hub.doctor.rendering import PAGE, SCHEMA, page, schema_text
from hub.doctor.report import (
    AddressReport,
    BackReport,
    Finding,
    QuantilesReport,
    Report,
    ThereReport,
)
from hub.doctor.showing import print_report
from hub.doctor.swallowed import Evidence, judge, told
from hub.doctor.words import FAULTS, Exit, Verdict

HUB = Address("192.0.2.1", socket.AF_INET)
PUNCTUAL = QuantilesReport(0.0, 0.0, 0.0, 0.0)
SCHEMA_OF = Draft202012Validator(json.loads(schema_text()))


def back(**changes: object) -> BackReport:
    clean = BackReport(5000, 0, 0.0, {}, 0, 0, [], PUNCTUAL, 1.0, 1.0)
    return msgspec.structs.replace(clean, **changes)


def test_the_page_and_the_schema_are_those_of_the_code() -> None:
    """python -m hub.doctor.rendering writes both."""
    text = PAGE.read_text()
    assert page(text) == text
    assert SCHEMA.read_text() == schema_text()
    Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize("slug", FAULTS)
def test_every_fault_has_words(slug: str) -> None:
    fault = FAULTS[slug]
    assert fault.says.endswith(".")
    assert fault.do.endswith(".")
    assert (fault.code == Exit.FIT) == (fault.severity.value == "info")


def test_the_worst_fault_is_the_verdict() -> None:
    assert verdict_of([]) == (Verdict.FIT, Exit.FIT)
    assert verdict_of([found("reordered")]) == (Verdict.FIT, Exit.FIT)
    assert verdict_of([found("losses-back")]) == (Verdict.PLAYABLE, Exit.ADVICE)
    everything = [found("losses-back"), found("cut-off"), found("hub-gone")]
    assert verdict_of(everything) == (Verdict.UNFIT, Exit.NO_UDP)


@pytest.mark.parametrize(
    ("changes", "faults"),
    [
        ({}, []),
        ({"lost": 1, "lost_share": 0.01}, []),
        ({"lost": 50, "lost_share": 0.01, "runs": {1: 50}}, ["losses-back"]),
        ({"late": QuantilesReport(0.0, 0.004, 0.02, 0.05)}, ["late-packets"]),
        ({"lost": 270, "lost_share": 0.05, "runs": {18: 15}}, ["hub-paused", "losses-back"]),
        ({"lost": 90, "lost_share": 0.02, "runs": {18: 5}}, ["losses-back"]),
        ({"lost": 150, "lost_share": 0.03, "runs": {10: 15}}, ["losses-back"]),
        ({"reordered": 100}, ["reordered"]),
        ({"clock_ppm": 800.0, "clock_error_ppm": 20.0}, ["clock-apart"]),
        ({"clock_ppm": 800.0, "clock_error_ppm": 300.0}, []),
        ({"clock_ppm": None, "clock_error_ppm": None}, []),
    ],
)
def test_what_is_found_on_the_way_back(changes: dict[str, object], faults: list[str]) -> None:
    assert [finding.fault for finding in of_back(back(**changes), 128 / 48000)] == faults


@pytest.mark.parametrize(
    ("lost", "others_db", "late_s", "faults"),
    [
        (0.0, None, 0.0, []),
        (0.05, None, 0.0, ["losses-there"]),
        (None, None, 0.0, ["own-voice-absent"]),
        (None, -30.0, 0.0, ["others-heard"]),
        (0.0, None, 0.004, ["own-machine-late"]),
    ],
)
def test_what_is_found_on_the_way_there(
    lost: float | None, others_db: float | None, late_s: float, faults: list[str]
) -> None:
    there = ThereReport(5000, 0, QuantilesReport(0.0, 0.0, late_s, late_s), lost, others_db)
    assert [finding.fault for finding in of_there(there, 128 / 48_000)] == faults


@pytest.mark.parametrize(
    ("evidence", "fault"),
    [
        (Evidence(), "udp-swallowed"),
        (Evidence(same_port=True), "udp-out-swallowed"),
        (Evidence(same_port=False), "udp-in-swallowed"),
        (Evidence(after_good_bye=True), "udp-in-swallowed"),
        (Evidence(closed_by="192.0.2.1"), "udp-port-closed"),
        (Evidence(prohibited_by="192.0.2.9"), "udp-prohibited"),
    ],
)
def test_what_evidence_amounts_to(evidence: Evidence, fault: str) -> None:
    assert judge(evidence) == fault


def test_who_complains_makes_the_difference() -> None:
    closed = Complaint(Problem.PORT_CLOSED, HUB.text)
    assert told([closed], HUB) == Evidence(closed_by=HUB.text)
    assert told([Complaint(Problem.PORT_CLOSED, "192.0.2.9")], HUB).prohibited_by == "192.0.2.9"
    assert told([Complaint(Problem.HOPS_OVER, "192.0.2.9")], HUB) == Evidence()
    # a hub's own firewall, which calls itself unreachable; and this machine's, which has no address
    assert told([Complaint(Problem.UNREACHABLE, HUB.text)], HUB).prohibited_by == HUB.text
    assert told([Complaint(Problem.PROHIBITED, "")], HUB).prohibited_by == "this computer"
    near = Address("fe80::1%eth0", socket.AF_INET6)
    assert told([Complaint(Problem.PORT_CLOSED, "fe80::1")], near).closed_by == "fe80::1"


def icmp(kind: int, code: int, number: int, info: int = 0) -> bytes:
    head = struct.pack("=IBBBBII", number, 2, kind, code, 0, info, 0)
    return head + struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_aton("192.0.2.9"))


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (icmp(3, 3, errno.ECONNREFUSED), Complaint(Problem.PORT_CLOSED, "192.0.2.9")),
        (icmp(3, 13, errno.EHOSTUNREACH), Complaint(Problem.PROHIBITED, "192.0.2.9")),
        (icmp(3, 4, errno.EMSGSIZE, 1280), Complaint(Problem.TOO_LONG, "192.0.2.9", 1280)),
        (icmp(11, 0, errno.EHOSTUNREACH), Complaint(Problem.HOPS_OVER, "192.0.2.9")),
        (b"", None),
    ],
)
def test_icmp_is_understood(data: bytes, complaint: Complaint | None) -> None:
    assert parse_complaint(data) == complaint


@given(st.binary(max_size=60))
def test_whatever_the_kernel_says_is_survived(data: bytes) -> None:
    parse_complaint(data)


def test_names() -> None:
    (address,) = resolve("127.0.0.1").addresses
    assert (address.text, address.is_ipv6) == ("127.0.0.1", False)
    assert resolve("x" * 80 + ".test").fault is NameFault.UNKNOWN


@pytest.mark.parametrize(
    ("address", "private"),
    [("192.168.1.5", True), ("100.64.3.3", True), ("127.0.0.1", False), ("8.8.8.8", False),
     ("fe80::1%eth0", True), ("2001:4860:4860::8888", False)],
)  # fmt: skip
def test_private_addresses(address: str, private: bool) -> None:
    assert is_private(address) is private


def report(findings: list[Finding]) -> Report:
    verdict, code = verdict_of(findings)
    return Report(
        1, "0.1.0", "hub.test", 4464, 0.0, 15.0, verdict.value, int(code), findings,
        [AddressReport("192.0.2.1", False, "open", 0.01, "")],
    )  # fmt: skip


def test_a_report_is_as_the_schema_says() -> None:
    full = msgspec.structs.replace(report([found("losses-back", "5")]), back=back(runs={1: 5}))
    SCHEMA_OF.validate(json.loads(msgspec.json.encode(full)))
    assert list(SCHEMA_OF.iter_errors({"v": 1}))


def test_what_others_named_is_never_markup() -> None:
    shown = Console(file=io.StringIO(), width=120)
    print_report(report([found("not-a-hub", "[bold]HTTP[/nothing]")]), shown)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]HTTP[/nothing]" in text
    assert "You cannot play like this." in text
