"""What all dashboards share: variables, links to one another, and how rows lie on the grid."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as models

from deploy.grafana.source.panels import DATASOURCE, DOCS, Panel
from deploy.grafana.source.queries import VARIABLES, series

_TAG = "headrace"
#: Every pod has it, whatever its state.
_EVERY_POD = "headrace_processes"
_LABELS = {"namespace": "Namespace", "job": "Job", "pod": "Pod", "instance": "Instance"}


@dataclass(frozen=True)
class Row:
    """Panels below one heading. Spans are of 24; what does not fit begins the next line."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Board:
    """One dashboard; ``name`` is its file's name and, after ``headrace-``, its uid."""

    name: str
    title: str
    text: str
    rows: tuple[Row, ...]
    one_pod: bool = False

    def build(self) -> models.Dashboard:
        board = (
            dashboard.Dashboard(f"headrace / {self.title}")
            .uid(f"headrace-{self.name}")
            .description(self.text)
            .tags([_TAG])
            .time("now-1h", "now")
            .refresh("30s")
            .timezone("browser")
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .editable()
            .variables(self._variables())
            .annotation(_starts())
            .links(_links())
        )
        number = 0
        for row in self.rows:
            number += 1
            board.with_row(dashboard.Row(row.title).id(number))
            for panel in row.panels:
                number += 1
                board.with_panel(panel.id(number))
        return board.build()

    def _variables(self) -> list[Builder[models.VariableModel]]:
        source = dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus")
        return [source, *(self._variable(label, before) for label, before in _chain())]

    def _variable(self, label: str, before: tuple[str, ...]) -> dashboard.QueryVariable:
        """Values of the label among pods that the variables before it choose."""
        chosen = ",".join(f'{earlier}=~"${earlier}"' for earlier in before)
        variable = (
            dashboard.QueryVariable(label)
            .label(_LABELS[label])
            .datasource(DATASOURCE)
            .query(f"label_values({_EVERY_POD}{{{chosen}}}, {label})")
            .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
            .sort(models.VariableSort.NATURAL_ASC)
        )
        if label == "instance" and self.one_pod:
            return variable
        return variable.include_all(True).all_value(".*").multi(True)


def _chain() -> list[tuple[str, tuple[str, ...]]]:
    return [(label, VARIABLES[:number]) for number, label in enumerate(VARIABLES)]


def _starts() -> dashboard.AnnotationQuery:
    """A deploy, a crash or a replaced process: a line in every graph."""
    started = f"changes({series('headrace_process_start_time_max_seconds')}[$__rate_interval]) > 0"
    return (
        dashboard.AnnotationQuery()
        .name("Processes started")
        .datasource(DATASOURCE)
        .icon_color("blue")
        .expr(started)
    )


def _links() -> list[Builder[models.DashboardLink]]:
    others = (
        dashboard.DashboardLink("Dashboards of headrace")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([_TAG])
        .as_dropdown(True)
        .include_vars(True)
        .keep_time(True)
    )
    pages = (("Runbooks", "runbooks/README.md"), ("What each metric means", "metrics.md"))
    return [
        others,
        *(
            dashboard.DashboardLink(title)
            .type(models.DashboardLinkType.LINK)
            .url(f"{DOCS}/{page}")
            .target_blank(True)
            for title, page in pages
        ),
    ]
