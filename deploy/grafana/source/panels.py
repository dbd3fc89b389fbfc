"""The kinds of panels that the dashboards have, each with a text that says what to look at."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeVar

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.variants import Dataquery
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.source.queries import Line

Panel = stat.Panel | timeseries.Panel
P = TypeVar("P", stat.Panel, timeseries.Panel)

#: The Prometheus that the reader chooses at the top of the dashboard.
DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="$datasource")
DOCS: Final = "https://github.com/headrace/headrace/blob/main/docs"

#: Grafana's names of units.
SECONDS: Final = "s"
BYTES: Final = "bytes"
BYTES_A_SECOND: Final = "binBps"
REQUESTS_A_SECOND: Final = "reqps"
A_SECOND: Final = "cps"
SHARE: Final = "percentunit"
NUMBER: Final = "short"

_GREEN, _ORANGE, _RED = "green", "orange", "red"


def graph(
    title: str,
    text: str,
    unit: str,
    *lines: Line,
    span: int = 8,
    height: int = 8,
    limit: float | None = None,
    stacked: bool = False,
    lowest: float | None = 0,
    nothing: str = "",
    runbook: str = "",
) -> timeseries.Panel:
    """Lines over time. A dashed line at ``limit`` shows where trouble begins.

    The panel shows ``nothing`` while it has no line, which is good. The axis begins at ``lowest``.
    """
    panel = (
        _titled(timeseries.Panel(), title, text, runbook)
        .unit(unit)
        .span(span)
        .height(height)
        .line_width(1)
        .fill_opacity(30 if stacked else 8)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(_legend())
        .tooltip(_tooltip())
        .thresholds(_steps([] if limit is None else [(limit, _RED)]))
        .targets(_targets(lines))
    )
    if lowest is not None:
        panel = panel.min(lowest)
    if nothing:
        panel = panel.no_value(nothing)
    if limit is not None:
        dashed = common_models.GraphThresholdsStyleMode.DASHED
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(dashed))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL))
    return panel


def events(
    title: str, text: str, *lines: Line, span: int = 8, runbook: str = ""
) -> timeseries.Panel:
    """How often something happened that should hardly ever happen, as bars."""
    return (
        graph(
            title,
            text,
            NUMBER,
            *lines,
            span=span,
            stacked=True,
            nothing="nothing happened",
            runbook=runbook,
        )
        .draw_style(common_models.GraphDrawStyle.BARS)
        .fill_opacity(80)
    )


def figures(
    title: str,
    text: str,
    unit: str,
    *lines: Line,
    span: int = 4,
    height: int = 5,
    worry: float | None = None,
    trouble: float | None = None,
    own_levels: Mapping[str, tuple[float, float]] | None = None,
    names_only: bool = False,
    runbook: str = "",
) -> stat.Panel:
    """The present values: orange from ``worry`` on, red from ``trouble`` on.

    ``own_levels`` are those of single lines, by legend.
    """
    general = [(worry, _ORANGE), (trouble, _RED)]
    steps = [(value, colour) for value, colour in general if value is not None]
    colours, texts = common_models.BigValueColorMode, common_models.BigValueTextMode
    panel = (
        _titled(stat.Panel(), title, text, runbook)
        .unit(unit)
        .span(span)
        .height(height)
        .thresholds(_steps(steps))
        .color_mode(colours.BACKGROUND if steps else colours.NONE)
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .text_mode(texts.NAME if names_only else texts.VALUE_AND_NAME)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .targets(_targets(lines))
    )
    for legend, (orange, red) in (own_levels or {}).items():
        levels = _steps([(orange, _ORANGE), (red, _RED)]).build()
        own = models.DynamicConfigValue(id_val="thresholds", value=levels.to_json())
        panel = panel.override_by_name(legend, [own])
    return panel


def verdict(
    title: str,
    text: str,
    *lines: Line,
    good: str,
    bad: str,
    span: int = 4,
    height: int = 5,
    runbook: str = "",
) -> stat.Panel:
    """Figures that are 1 where all is well and 0 where not, said in words."""
    words: list[models.ValueMapping] = [
        models.ValueMap(
            {
                "0": models.ValueMappingResult(text=bad, color=_RED, index=0),
                "1": models.ValueMappingResult(text=good, color=_GREEN, index=1),
            }
        )
    ]
    panel = figures(title, text, NUMBER, *lines, span=span, height=height, runbook=runbook)
    return panel.mappings(words).color_mode(common_models.BigValueColorMode.BACKGROUND)


def _titled(panel: P, title: str, text: str, runbook: str) -> P:
    """The panel with what all kinds have; it links to the runbook if there is one."""
    panel.title(title).description(text).datasource(DATASOURCE)
    if runbook:
        panel.links(_links(runbook))
    return panel


def _legend() -> common.VizLegendOptions:
    return (
        common.VizLegendOptions()
        .display_mode(common_models.LegendDisplayMode.TABLE)
        .placement(common_models.LegendPlacement.BOTTOM)
        .show_legend(True)
        .calcs(["lastNotNull", "max"])
    )


def _tooltip() -> common.VizTooltipOptions:
    return (
        common.VizTooltipOptions()
        .mode(common_models.TooltipDisplayMode.MULTI)
        .sort(common_models.SortOrder.DESCENDING)
    )


def _targets(lines: Iterable[Line]) -> list[Builder[Dataquery]]:
    return [
        prometheus.Dataquery()
        .expr(line.promql)
        .legend_format(line.legend)
        .ref_id(chr(ord("A") + number))
        .range()
        for number, line in enumerate(lines)
    ]


def _steps(levels: Iterable[tuple[float, str]]) -> dashboard.ThresholdsConfig:
    base = models.Threshold(value=None, color=_GREEN)
    steps = [base, *(models.Threshold(value=value, color=colour) for value, colour in levels)]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _links(runbook: str) -> list[Builder[models.DashboardLink]]:
    url = f"{DOCS}/runbooks/{runbook}.md"
    return [
        dashboard.DashboardLink(f"What to do: {runbook}")
        .type(models.DashboardLinkType.LINK)
        .url(url)
        .target_blank(True)
    ]
