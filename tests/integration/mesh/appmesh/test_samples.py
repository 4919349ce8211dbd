"""What App Mesh's walkthroughs are about, by their manifests, on real Envoys."""

import asyncio
import ssl

import grpc
import httpx
import pytest
from grpc import aio

from mesh.render.envoy import Address
from tests.conftest import held
from tests.kit.app_mesh import LIST, MIX, call, calls, grpc_process, running
from tests.kit.envoy_chain import eventually

OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
PALETTE = "palette.paint"
"""The virtual service, where its manifest names it by name and namespace alone."""


async def test_calls_go_by_method_by_metadata_and_by_weight() -> None:
    name = "palette.paint.svc.cluster.local"
    async with held(running("grpc-routing.yaml")) as mesh:
        egress, red, green = (
            mesh.egress("easel_paint", 9090),
            mesh.processes["palette-red_paint"],
            mesh.processes["palette-green_paint"],
        )

        async def heard(path: str, *metadata: tuple[str, str], count: int = 8) -> tuple[int, int]:
            red.heard.clear()
            green.heard.clear()
            for _ in range(count):
                assert await call(egress, name, path, metadata) is OK
            return len(red.heard), len(green.heard)

        assert await heard(MIX) == (0, 8)
        assert await heard(LIST, ("x-painter", "rembrandt")) == (8, 0)
        by_weight = await heard(LIST, ("x-painter", "rembrandt"), ("x-draft", "1"), count=60)
        assert min(by_weight) > 10
        assert min(await heard(LIST, ("x-painter", "vermeer"), count=60)) > 10
        assert await call(egress, name, "/paint.Brush/List") is grpc.StatusCode.UNIMPLEMENTED
        assert await call(egress, "frame.paint.svc.cluster.local") is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_is_made_again_for_the_events_that_its_route_names() -> None:
    async with held(running("retries.yaml")) as mesh:
        palette, egress = mesh.processes["palette_paint"], mesh.egress("easel_paint", 9090)
        ends = [UNAVAILABLE, UNAVAILABLE, OK]

        async def answer(context: "aio.ServicerContext[bytes, bytes]") -> bytes:
            code = ends[min(len(palette.heard), len(ends)) - 1]
            if code is not OK:
                await context.abort(code)
            return b""

        palette.answer = answer
        assert await call(egress, PALETTE) is OK
        assert len(palette.heard) == 3
        palette.heard.clear()
        ends[:] = [grpc.StatusCode.INTERNAL]
        assert await call(egress, PALETTE) is grpc.StatusCode.INTERNAL
        assert len(palette.heard) == 1
        palette.heard.clear()
        ends[:] = [UNAVAILABLE]
        assert await call(egress, PALETTE) is UNAVAILABLE
        assert len(palette.heard) == 5


async def test_a_call_that_takes_longer_than_its_route_allows_is_ended() -> None:
    async with held(running("timeouts.yaml")) as mesh:
        palette, egress = mesh.processes["palette_paint"], mesh.egress("easel_paint", 9090)
        ended = asyncio.Event()

        async def never(context: "aio.ServicerContext[bytes, bytes]") -> bytes:
            try:
                await asyncio.sleep(60)
            finally:
                ended.set()
            return b""

        palette.answer = never
        assert await call(egress, PALETTE, timeout=20) in (UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
        async with asyncio.timeout(10):
            await ended.wait()
        assert await mesh.stat("easel_paint", "cds_egress_paint_palette_paint_grpc_9090.upstream_rq_timeout") == 1


async def test_an_endpoint_that_fails_again_and_again_is_left_alone() -> None:
    async def fail(context: "aio.ServicerContext[bytes, bytes]") -> bytes:
        await context.abort(UNAVAILABLE)

    async with held(grpc_process()) as good, held(grpc_process()) as bad:
        bad.answer = fail
        addresses = [good.address, bad.address]
        async with held(running("outlier-detection.yaml", endpoints={"palette_paint": addresses})) as mesh:
            egress = mesh.egress("easel_paint", 9090)

            async def left_alone() -> bool:
                # Envoy hands an ejection to its workers within a second.
                return [await call(egress, PALETTE) for _ in range(10)] == [OK] * 10

            await eventually(left_alone)
            assert await mesh.stat("easel_paint", "outlier_detection.ejections_active") == 1
            seen = len(bad.heard)
            assert [await call(egress, PALETTE) for _ in range(20)] == [OK] * 20
            assert len(bad.heard) == seen


async def test_more_calls_at_once_than_the_node_takes_are_refused() -> None:
    async with held(running("circuit-breaking.yaml")) as mesh:
        palette, egress = mesh.processes["palette_paint"], mesh.egress("easel_paint", 9090)
        go_on = asyncio.Event()

        async def wait(context: "aio.ServicerContext[bytes, bytes]") -> bytes:
            await go_on.wait()
            return b""

        palette.answer = wait
        several = asyncio.create_task(calls(6, egress, PALETTE))

        async def refused() -> bool:
            return await mesh.stat("palette_paint", "upstream_rq_active_overflow") == 4

        await eventually(refused)
        go_on.set()
        assert await several == {OK: 2, UNAVAILABLE: 4}
        assert await call(egress, PALETTE) is OK


async def test_both_ends_show_certificates_and_strangers_get_nowhere() -> None:
    async with held(running("mtls-file.yaml")) as mesh:
        assert await call(mesh.egress("easel_paint", 9090), PALETTE) is OK
        assert await mesh.stat("palette_paint", "ssl.handshake") == 1
        ingress = mesh.ingress("palette_paint", 9090)
        assert await call(ingress, PALETTE) is UNAVAILABLE
        for name, admitted in (("easel", True), ("stranger", False)):
            context = ssl.create_default_context(cafile=str(mesh.certificates / "easel" / "ca.crt"))
            context.check_hostname = False
            context.load_cert_chain(mesh.certificates / name / "tls.crt", mesh.certificates / name / "tls.key")
            async with httpx.AsyncClient(verify=context, http1=False, http2=True) as client:
                url = f"https://{ingress.host}:{ingress.port}{LIST}"
                headers = {"content-type": "application/grpc", "te": "trailers"}
                if admitted:
                    assert (await client.post(url, content=b"\0\0\0\0\0", headers=headers)).status_code == 200
                else:
                    with pytest.raises(httpx.TransportError):
                        await client.post(url, content=b"\0\0\0\0\0", headers=headers)
        assert await mesh.stat("palette_paint", "ssl.fail_verify_san") == 1


async def test_a_node_with_another_name_is_not_called() -> None:
    async with held(
        running("mtls-file.yaml", changed={'["spiffe://paint/palette"]': '["spiffe://paint/brush"]'})
    ) as mesh:
        assert await call(mesh.egress("easel_paint", 9090), PALETTE) is UNAVAILABLE
        assert await mesh.stat("easel_paint", "ssl.fail_verify_san") >= 1
        assert not mesh.processes["palette_paint"].heard


async def test_a_permissive_listener_takes_both() -> None:
    async with held(running("mtls-file.yaml", changed={"mode: STRICT": "mode: PERMISSIVE"})) as mesh:
        assert await call(mesh.egress("easel_paint", 9090), PALETTE) is OK
        assert await call(mesh.ingress("palette_paint", 9090), PALETTE) is OK


async def test_a_gateway_opens_services_by_name_by_host_and_by_prefix() -> None:
    async with held(running("ingress.yaml")) as mesh:
        door = mesh.ingress("door_paint", 8088)
        assert await call(door, "anything.example.com") is OK
        ((path, metadata),) = mesh.processes["palette_paint"].heard
        assert path == LIST
        assert "x-app-mesh-virtual-service" not in metadata
        assert await call(door, "anything.example.com", "/paint.Brush/List") is grpc.StatusCode.UNIMPLEMENTED
        web = mesh.ingress("door_paint", 8089)
        async with httpx.AsyncClient(base_url=f"http://{web.host}:{web.port}") as client:
            asked = (await client.get("/canvas/1")).json()
            assert (asked["host"], asked["path"]) == ("canvas.paint", "/1")
            assert (await client.get("/canvas")).json()["path"] == "/"
            assert (await client.get("/canvasses")).status_code == 404
            asked = (await client.get("/canvas/1", headers={"host": "raw.example.com"})).json()
            assert (asked["host"], asked["path"]) == ("raw.example.com", "/canvas/1")
            assert "x-app-mesh-virtual-service" not in {name.lower() for name in asked["headers"]}
            claimed = {"x-app-mesh-virtual-service": "palette.paint"}
            assert (await client.get("/elsewhere", headers=claimed)).status_code == 404


async def test_what_the_api_described_runs_as_well() -> None:
    """Cloud Map by DNS, and a certificate of ACM by file."""
    async with held(running("cloud-map.json")) as mesh:
        assert await call(mesh.egress("easel", 9090), "palette.paint.local") is OK
        assert await mesh.stat("palette", "ssl.handshake") == 1
        changed = "\n".join(mesh.report.changed)
        assert "palette: its certificate is in ACM" in changed
        assert "serviceDiscovery.awsCloudMap.ipPreference: App Mesh has no such field" in "\n".join(
            mesh.report.left_out
        )


async def test_what_is_outside_is_called_by_its_name_and_nothing_else_is() -> None:
    async with held(running("egress.yaml")) as mesh:
        museum = mesh.egress("easel_paint", 80)
        async with httpx.AsyncClient(base_url=f"http://{museum.host}:{museum.port}") as client:
            asked = (await client.get("/night-watch", headers={"host": "museum.example.com"})).json()
            assert (asked["host"], asked["path"]) == ("museum.example.com", "/night-watch")
            assert (await client.get("/", headers={"host": "elsewhere.example.com"})).status_code == 404
        assert await _echoed(mesh.egress("easel_paint", 5432), b"select 1") == b"select 1"
        with pytest.raises(ConnectionRefusedError):
            await _echoed(mesh.egress("easel_paint", 9090), b"")


async def _echoed(address: Address, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(address.host, address.port)
    writer.write(data)
    try:
        async with asyncio.timeout(10):
            return await reader.readexactly(len(data))
    finally:
        writer.close()
