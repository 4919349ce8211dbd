"""The server kit: one way to start a service, the interceptor stages around every call, and channels to other services.

`server` starts and drains; `call` is what a handler may know of its call; `interceptor` wraps handlers in stages,
outermost first `telemetry`, `errors`, `admission`, authentication (`mesh.tokens`), `validation`; `channel` dials
through the sidecar's egress.
"""
