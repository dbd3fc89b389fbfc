"""Pictures of the dashboards, drawn from what a real Prometheus answers; Grafana is not needed.

``python -m tests.deploy.pictures --prometheus http://127.0.0.1:9090`` writes one SVG for each.
"""
