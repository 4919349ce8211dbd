"""What watches the mesh by its metrics: rules of Prometheus and a dashboard of Grafana, from one definition.

`definition` says what is watched; `prometheus` and `grafana` write it down for their programs.
"""

from mesh.render.watch.grafana import dashboard
from mesh.render.watch.prometheus import rules, scrape_kubernetes

__all__ = ["dashboard", "rules", "scrape_kubernetes"]
