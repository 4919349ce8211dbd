"""`GET /metrics` on a unix socket that only the sidecar dials, as OpenMetrics or in the older text format."""

import asyncio
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from mesh.runtime.part import Part
from mesh.telemetry.metrics import LOOP_LAG_SECONDS, REGISTRY

LAG_EVERY_SECONDS = 0.5
_GRACE_SECONDS = 1.0


class Exposition(Part):
    """Serves the metrics, and measures the loop's lag while it is at it."""

    name = "metrics"

    def __init__(self, socket: Path, registry: CollectorRegistry = REGISTRY) -> None:
        """Initializes the instance.

        Args:
            socket: Where. One that is left over from before is replaced.
            registry: What to show.
        """
        self._socket = socket
        self._registry = registry

    async def run(self) -> None:
        """Serves until it is cancelled."""
        application = web.Application(client_max_size=0)
        application.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=_GRACE_SECONDS)
        await runner.setup()
        self._socket.unlink(missing_ok=True)
        try:
            await web.UnixSite(runner, str(self._socket)).start()
            await self._measure_lag()
        finally:
            await runner.cleanup()
            self._socket.unlink(missing_ok=True)

    async def _metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return web.Response(body=encode(self._registry), headers={"content-type": content_type})

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY_SECONDS
            await asyncio.sleep(LAG_EVERY_SECONDS)
            LOOP_LAG_SECONDS.observe(max(0.0, loop.time() - due))
