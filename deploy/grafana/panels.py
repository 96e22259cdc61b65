"""Panels as all dashboards have them: what is asked, in which unit, how wide."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase

from grafana_foundation_sdk.builders import common, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import (
    AnnotationQuery,
    Dashboard,
    DatasourceVariable,
    QueryVariable,
    ThresholdsConfig,
)
from grafana_foundation_sdk.models import heatmap as heatmap_models
from grafana_foundation_sdk.models import prometheus as prometheus_models
from grafana_foundation_sdk.models.common import (
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (
    Threshold,
    ThresholdsMode,
    VariableRefresh,
    VariableSort,
)

SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
FULL, HALF, THIRD, STAT = 24, 12, 8, 4
HEIGHT, STAT_HEIGHT = 8, 4
_GREEN, _YELLOW, _RED = "green", "yellow", "red"


def _query(expression: str, legend: str, *, heat: bool = False) -> prometheus.Dataquery:
    query = prometheus.Dataquery().datasource(SOURCE).expr(expression).legend_format(legend)
    if heat:
        query = query.format(prometheus_models.PromQueryFormat.HEATMAP)
    return query.range()


def _limits(warning: float | None, critical: float | None) -> ThresholdsConfig:
    steps = [Threshold(value=None, color=_GREEN)]
    if warning is not None:
        steps.append(Threshold(value=warning, color=_YELLOW))
    if critical is not None:
        steps.append(Threshold(value=critical, color=_RED))
    return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def number(
    title: str,
    text: str,
    expression: str,
    unit: str = "short",
    *,
    warning: float | None = None,
    critical: float | None = None,
) -> stat.Panel:
    """One number, coloured by limits."""
    return (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .span(STAT)
        .height(STAT_HEIGHT)
        .thresholds(_limits(warning, critical))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_query(expression, "").ref_id("A").instant())
    )


def graph(
    title: str,
    text: str,
    expressions: Mapping[str, str],
    unit: str = "short",
    *,
    width: int = HALF,
    stacked: bool = False,
    limit: float | None = None,
) -> timeseries.Panel:
    """Curves: expressions by legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .span(width)
        .height(HEIGHT)
        .fill_opacity(30 if stacked else 5)
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if limit is not None:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        panel = panel.thresholds(_limits(None, limit)).thresholds_style(style)
    for ref, (legend, expression) in zip(ascii_uppercase, expressions.items(), strict=False):
        panel = panel.with_target(_query(expression, legend).ref_id(ref))
    return panel


def heat(title: str, text: str, expression: str, *, width: int = HALF) -> heatmap.Panel:
    """A heat map of a histogram in seconds: how many, over time and bucket."""
    color = (
        heatmap.HeatmapColorOptions()
        .mode(heatmap_models.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .exponent(0.5)
        .steps(64)
    )
    return (
        heatmap.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .span(width)
        .height(HEIGHT)
        .calculate(False)
        .color(color)
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .with_target(_query(expression, "{{le}}", heat=True).ref_id("A"))
    )


def choice(name: str, label: str, query: str) -> QueryVariable:
    """A variable to choose one of what a query finds."""
    return (
        QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.NATURAL_ASC)
        .include_all(False)
        .multi(False)
    )


def dashboard(uid: str, title: str, text: str, where: str) -> Dashboard:
    """An empty dashboard with the annotations that all have.

    Args:
        where: labels' matchers of the hubs that it is about.
    """
    board = (
        Dashboard(title)
        .uid(uid)
        .description(text)
        .tags(["tuttihub"])
        .editable()
        .refresh("5s")
        .time("now-15m", "now")
        .timezone("browser")
        .with_variable(DatasourceVariable("source").label("Prometheus").type("prometheus"))
    )
    joined = (
        f"tuttihub_client_joined_timestamp_seconds{{{where}}} * on (job, instance, slot) "
        f"group_left (name) tuttihub_client_info{{{where}}} * 1000"
    )
    started = f"tuttihub_start_time_seconds{{{where}}} * 1000"
    left = (
        "sum by (job, instance, reason) "
        f"(increase(tuttihub_sessions_ended_total{{{where}}}[$__rate_interval])) > 0"
    )
    replaced = (
        "sum by (job, instance, worker, reason) "
        f"(increase(tuttihub_worker_restarts_total{{{where}}}[$__rate_interval])) > 0"
    )
    for name, color, expression, words, at_value in (
        ("Joins", _GREEN, joined, "{{name}} joins {{instance}}", True),
        ("Leaves", "blue", left, "somebody leaves {{instance}}: {{reason}}", False),
        ("Restarts", _RED, replaced, "{{worker}} of {{instance}} replaced: {{reason}}", False),
        ("Hub starts", "purple", started, "{{instance}} starts", True),
    ):
        board = board.annotation(
            AnnotationQuery()
            .name(name)
            .datasource(SOURCE)
            .enable(True)
            .icon_color(color)
            .expr(expression)
            .step("1s")
            .title_format(words)
            .use_value_for_time(at_value)
        )
    return board
