"""The capacity tables in docs/loadtest.md, from what is kept of searches in loadtest/results.

python -m loadtest.benchmarks.capacitytable           writes them between the markers
python -m loadtest.benchmarks.capacitytable --check   exit code 1 when they are not what is there

Of several files the newest that has searched a case says what was found; its older figures are not
shown. What other machines would carry is of the newest file that could fit a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from loadtest.benchmarks import record
from loadtest.benchmarks.record import RecordError
from loadtest.benchmarks.render import bring_up_to_date, insert, markdown, where
from loadtest.capacity.probe import Probe
from loadtest.capacity.report import CapacityFileError, level_words, read
from loadtest.scenario.model import Service
from shared.layout import PatchMode

PAGE = Path(__file__).resolve().parents[2] / "docs" / "loadtest.md"
BEGIN, END = "<!-- capacity:begin -->", "<!-- capacity:end -->"
TYPICAL = (128, 2)
"""Frames and channels that predictions are shown of in detail."""
_NOTHING = "–"
_SERVERS = {"tuttihub": "tuttihub", "jacktrip": "JackTrip"}
_PARTS = {"receive": "receivers", "mix": "mixer and lanes", "other": "the rest"}

Values = dict[str, Any]
"""Of JSON."""


def measurements(folder: Path = record.RESULTS) -> list[Values]:
    """All capacity files of a folder, the newest first.

    Raises:
        RecordError: one is none.
    """
    try:
        found = [read(path) for path in folder.glob("capacity-*.json")]
    except CapacityFileError as error:
        raise RecordError(str(error)) from error
    return sorted(found, key=lambda values: str(values["provenance"].get("date")), reverse=True)


def content(found: Sequence[Values]) -> str:
    """What stands between the page's markers.

    found: as ``measurements``.

    Raises:
        RecordError: a file is damaged.
    """
    if not found:
        return "Nothing has been searched yet: `make bench-capacity` does."
    try:
        return "\n\n".join([*_searched(found), *_predicted(found)])
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise RecordError(f"a capacity file is damaged: {error!r}") from error


def _searched(found: Sequence[Values]) -> list[str]:
    """What was found, a table for each file that still has a say."""
    parts: list[str] = []
    shown: set[tuple[str, int, int]] = set()
    for values in found:
        searches = [each for each in values["searches"]
                    if each["found"] and _key(each["case"]) not in shown]  # fmt: skip
        shown |= {_key(each["case"]) for each in searches}
        groups: dict[str, list[Values]] = {}
        for each in searches:
            groups.setdefault(_conditions(each), []).append(each)
        for conditions, group in groups.items():
            command = values["provenance"].get("command", "")
            parts += [
                f"Searched {where(values['provenance'])}: {conditions} (`{command}`).",
                markdown(
                    ["hub", "frames", "channels", "clients", "fails at", "held in",
                     "µs a client-period", "in → out p50 / p99", "machine stood still",
                     "what gives out first"],
                    [_line(each) for each in group],
                    left=1,
                ),
                "\n".join(f"- {each['label']}: {_why(each)}" for each in group),
            ]  # fmt: skip
    return parts


def _key(case: Values) -> tuple[str, int, int]:
    return case["target"], case["frames"], case["channels"]


def _conditions(each: Values) -> str:
    """What all rows of a table have in common."""
    case, rules = each["case"], each["rules"]
    mode = PatchMode(case["mode"]).name.lower().replace("_", "-")
    options = " ".join(case["hub_options"])
    parts = [
        f"{mode} (mode {case['mode']})", f"`-q {case['queue']}`", f"{case['bits']} bit",
        f"{case['rate_hz'] / 1000:g} kHz", f"the hub on {len(case['hub_cpus'])} core",
        f"{rules['seconds']:g} s a probe, steps of {100 * rules['step_share']:g} %",
        f"at the level {level_words(Service(**case['service']))}",
    ]  # fmt: skip
    if len(case["hub_cpus"]) > 1:
        parts[4] += "s"
    if options and case["target"] == "tuttihub":
        parts.insert(2, f"`{options}`")
    return ", ".join(parts)


def _line(each: Values) -> list[str]:
    found, case = each["found"], each["case"]
    probes = [Probe.from_json(values) for values in each["probes"]]
    votes = [one for one in probes if one.clients == found["clients"] and one.usable]
    held = [one for one in votes if one.passed]
    cost, latency, halted = _NOTHING, _NOTHING, _NOTHING
    if held:
        figures = held[-1].figures
        cost = f"{sum(figures.cpu_us.values()):.1f}"
        halted = f"{figures.halted_ms:.0f} ms"
        if figures.latency_p99_us:
            latency = f"{figures.latency_p50_us / 1e3:.1f} / {figures.latency_p99_us / 1e3:.1f} ms"
    return [
        _SERVERS[case["target"]], str(case["frames"]), str(case["channels"]),
        str(found["clients"]), str(found["fails"] or _NOTHING), f"{len(held)} of {len(votes)}",
        cost, latency, halted, each["limit"]["resource"] if each["limit"] else _NOTHING,
    ]  # fmt: skip


def _why(each: Values) -> str:
    """Which figures led to the verdict."""
    text = each["limit"]["text"] if each["limit"] else each["found"]["meaning"]
    return str(text)


def _predicted(found: Sequence[Values]) -> list[str]:
    """The model that was fitted, what it predicts, and what it assumes."""
    values = next((each for each in found if each["predictions"]), None)
    if values is None:
        return [f"No model: {found[0].get('model_note') or 'nothing was predicted'}."]
    predictions, model = values["predictions"], values["model"]
    formats = list(dict.fromkeys(_format(each) for each in predictions))
    chosen = TYPICAL if TYPICAL in formats else formats[0]
    cards = list(dict.fromkeys(each["card"]["gbits"] for each in predictions))
    middle = cards[len(cards) // 2]
    cores = list(dict.fromkeys(each["cores"] for each in predictions))
    by_place = {(_format(each), each["cores"], each["card"]["gbits"]): each for each in predictions}
    in_detail = [
        [str(count), str(by_place[chosen, count, cards[0]]["lanes"]),
         *(_clients(by_place[chosen, count, card]) for card in cards),
         f"{by_place[chosen, count, cards[-1]]['memory_mib']:.0f} MiB"]
        for count in cores
    ]  # fmt: skip
    in_all = [
        [f"{frames} frames, {_channels(channels)}",
         *(_clients(by_place[(frames, channels), count, middle], short=True) for count in cores)]
        for frames, channels in formats
    ]  # fmt: skip
    parts = [
        f"The model, fitted to {model['observations']} of the probes made "
        f"{where(values['provenance'])}, is so many µs of CPU a period (± a standard deviation); "
        f"with up to {model['most_clients']} clients it was off by so much:",
        markdown(["part", "a period", "a client", "a sample and client", "off by"],
                 [_part(name, model[name]) for name in ("receive", "mix", "other")], left=1),
        f"Private memory: {model['memory_kib'] / 1024:.0f} MiB, and "
        f"{model['memory_a_client_kib'] / 1024:.2g} MiB a client.",
        f"It predicts, for {chosen[0]} frames, {_channels(chosen[1])} (in brackets what the "
        "coefficients' deviations, twice, make of it):",
        markdown(
            ["cores", "lanes", *(f"{card:g} Gbit/s" for card in cards),
             f"memory at {cards[-1]:g} Gbit/s"],
            in_detail,
        ),
        *_beside_the_search(values, chosen, predictions),
        f"and for each format with a card of {middle:g} Gbit/s:",
        markdown(["format", *(f"{count} core{'s' * (count > 1)}" for count in cores)], in_all,
                 left=1),
        *_mixer_ends(values),
        "It assumes, and nothing of this was measured:",
        _list(values["assumptions"]),
    ]  # fmt: skip
    if warnings := list(dict.fromkeys(line for one in predictions for line in one["warnings"])):
        parts += ["\\* more than the measurements can carry, as it may be:", _list(warnings)]
    return parts


def _mixer_ends(values: Values) -> list[str]:
    """Where one process is full, whatever the number of cores."""
    ends = values.get("mixer_ends")  # older files do not have it
    if not ends:
        return []
    found = ", ".join(f"{clients} ({label})" for label, clients in ends.items())
    return [f"The mixer is one process, and full, however many cores and lanes, with {found}."]


def _beside_the_search(
    values: Values, chosen: tuple[int, int], predictions: Sequence[Values]
) -> list[str]:
    """What the search found with as many cores as something is predicted for."""
    predicted = {each["cores"]: each for each in reversed(predictions) if _format(each) == chosen}
    lines = []
    for each in values["searches"]:
        case, found = each["case"], each["found"]
        cores = len(case["hub_cpus"])
        if not found or cores not in predicted or _key(case) != ("tuttihub", *chosen):
            continue
        one = predicted[cores]
        text = (
            f"The search itself found {found['clients']} with {cores} core{'s' * (cores > 1)} and "
            f"nothing left free, where {one['clients']} are predicted with a reserve"
        )
        if one["clients"] > found["clients"]:
            text += f": **too many**; rather reckon with the lower end, {one['low']}"
        lines.append(f"{text}.")
    return lines


def _format(prediction: Values) -> tuple[int, int]:
    return prediction["format"]["frames"], prediction["format"]["sends"]


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def _clients(prediction: Values, *, short: bool = False) -> str:
    """How many, from where to where, and what gives out then."""
    mark = "\\*" if prediction["warnings"] else ""
    number = f"{prediction['clients']}{mark}"
    if short:
        return number
    low, high = prediction["low"], prediction["high"]
    return f"{number}{f' ({low}–{high})' if low != high else ''}, {prediction['limit']}"


def _part(name: str, line: Values) -> list[str]:
    """A line of the model; what goes by the clock is given for each ms."""
    found = line["coefficients_us"]

    def value(*names: str) -> str:
        for each, unit in zip(names, ("", " a ms"), strict=False):
            if each in found and found[each][0]:
                return f"{found[each][0]:.3g} ± {found[each][1]:.1g}{unit}"
        return "0"

    return [
        _PARTS[name], value("tick", "ms"), value("client", "client ms"), value("sample"),
        f"{100 * line['residual_share']:.0f} %",
    ]  # fmt: skip


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def rendered(page: Path = PAGE, results: Path = record.RESULTS) -> str:
    """The page as it should be.

    Raises:
        RenderError: it has no markers.
        RecordError: a result cannot be read.
    """
    return insert(page.read_text(), content(measurements(results)), BEGIN, END)


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; exit code 1 when it is out of date.")
def main(check: bool) -> None:
    """Write the capacity tables from what is kept of searches."""
    bring_up_to_date(PAGE, rendered, check, "capacity tables")


if __name__ == "__main__":
    main()
