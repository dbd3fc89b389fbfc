"""``python -m deploy.grafana.source`` writes the dashboards anew."""

from deploy.grafana.source.files import write

write()
