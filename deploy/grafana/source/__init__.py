"""Grafana's dashboards for headrace, written in Python: ``python -m deploy.grafana.source``.

Each module but ``queries``, ``panels`` and ``boards`` is one dashboard.
"""
