"""From many observations to a short list that people can read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import replace

from loadtest.conduct.outcome import Finding, FindingKind

MOST_FINDINGS = 200
MANY = 4
"""So many talkers with the same fault at one listener are one finding."""

Kind = FindingKind
_SENTENCES = {
    Kind.WRONG_GAIN: "{listener} hears {source} {gain}",
    Kind.OWN_VOICE: "{listener} hears its own voice, at {level} dB, where it should be absent",
    Kind.MISSING_SOURCE: "{listener} does not hear {source}",
    Kind.EXTRA_SOURCE: "{listener} hears {source} once more than it should, at {level} dB",
    Kind.SWAPPED_CHANNELS: "{listener} hears {source} with channels exchanged",
    Kind.WRONG_SOURCE: "{listener} hears another in place of {source}",
    Kind.MOVED: "{listener} hears {source} {frames} than before: a queue slipped",
    Kind.REPEATED: "{listener} hears old samples of {source} again ({frames})",
    Kind.DROPOUT: "{listener} hears silence in place of {source}",
    Kind.CLICK: "{listener} hears a click in {source}",
    Kind.CLIPPED: "{listener} hears loud sums limited, or wrapped around",
    Kind.UNEXPLAINED: "{listener} hears wrong samples that have no name ({source})",
}


def who(indices: list[int], one: int, nobody: str) -> str:
    """Clients, for people."""
    if one >= 0:
        return f"client {one}"
    if not indices:
        return nobody
    shown = ", ".join(map(str, indices[:5]))
    return f"clients {shown}" + (f" and {len(indices) - 5} more" if len(indices) > 5 else "")


def _gain(gain_db: float | None) -> str:
    if gain_db is None:
        return "at a wrong gain"
    return f"{abs(gain_db):.2f} dB too {'loud' if gain_db > 0 else 'soft'}"


def _frames(frames: int) -> str:
    return f"{abs(frames)} samples {'later' if frames >= 0 else 'earlier'}"


def sentence(finding: Finding) -> str:
    """What happened, for people; what was there already is kept for kinds without a sentence."""
    template = _SENTENCES.get(finding.kind)
    listener = who(finding.listeners, finding.listener, "several clients")
    source = who([], finding.source, "several sources")
    if template is None or (finding.text and finding.kind == Kind.MISSING_SOURCE):
        if finding.kind == Kind.DELAYED:
            late = f"{finding.text} ({_frames(finding.frames)})"
            return f"{source if finding.source >= 0 else listener}: {late}"
        if finding.kind == Kind.MISSING_SOURCE:
            return f"{listener} does not hear {source}: {finding.text}"
        return f"{listener}: {finding.text}"
    said = template.format(
        listener=listener,
        source=source,
        gain=_gain(finding.gain_db),
        level="?" if finding.gain_db is None else f"{finding.gain_db:.1f}",
        frames=_frames(finding.frames),
    )
    if finding.listener < 0:  # several
        for one, many in (("does not", "do not"), ("hears", "hear"), ("its own", "their own")):
            said = said.replace(one, many)
    return f"{said}: {finding.text}" if finding.text else said


def _together(
    findings: Iterable[Finding], key: Callable[[Finding], Hashable], least: int
) -> list[Finding]:
    """Make one of those with the same key, if there are so many."""
    groups: dict[Hashable, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[key(finding)].append(finding)
    merged = []
    for group in groups.values():
        if len(group) < least:
            merged.extend(group)
            continue
        first = group[0]
        listeners = sorted({i for each in group for i in (each.listeners or [each.listener])})
        gains = [each.gain_db for each in group if each.gain_db is not None]
        merged.append(
            replace(
                first,
                listener=listeners[0] if len(listeners) == 1 else -1,
                source=first.source if len({each.source for each in group}) == 1 else -1,
                from_s=min(each.from_s for each in group),
                to_s=max(each.to_s for each in group),
                count=sum(each.count for each in group),
                gain_db=round(sorted(gains)[len(gains) // 2], 2) if gains else None,
                frames=first.frames if len({each.frames for each in group}) == 1 else 0,
                listeners=[] if len(listeners) == 1 else listeners,
            )
        )
    return merged


def _gain_key(finding: Finding) -> float | None:
    """Gains within about 0.2 dB are the same; rounding makes soft voices uncertain."""
    if finding.gain_db is None or finding.kind == Kind.OWN_VOICE:
        return None
    return round(finding.gain_db * 4) / 4


def merge(findings: list[Finding]) -> list[Finding]:
    """The same over time, over listeners, and over sources made one; most frequent first."""
    found = _together(
        findings, lambda f: (f.kind, f.listener, f.source, _gain_key(f), f.frames, f.text), 2
    )
    found = _together(found, lambda f: (f.kind, f.source, _gain_key(f), f.frames, f.text), 2)
    found = _together(
        found, lambda f: (f.kind, f.listener, tuple(f.listeners), _gain_key(f), f.text), MANY
    )
    if len(found) > MOST_FINDINGS // 2:
        found = _together(found, lambda f: (f.kind, f.text), MANY)
    found.sort(key=lambda f: (-f.count, f.from_s))
    for finding in found:
        finding.text = sentence(finding)
    return found[:MOST_FINDINGS]
