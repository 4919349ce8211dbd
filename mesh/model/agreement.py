"""Checks that mesh.yaml and the access rules of the contract agree, and says who may call what."""

from collections.abc import Iterator

from mesh.contract import Contract, Rpc
from mesh.model.mesh import Mesh


class RenderError(ValueError):
    """mesh.yaml and the contract disagree.

    The message names every RPC (or proto service) and node at fault, one a line.
    """


def check_agreement(mesh: Mesh, contract: Contract) -> None:
    """Holds mesh.yaml against the access rules, in both directions.

    Raises:
        RenderError: a caller that a rule names does not list the backend, a backend is listed for no reason, a proto
            service has no or several routers, an internal RPC is open at the gateway, or one for clients is not.
    """
    faults = [*_route_faults(mesh, contract), *_gateway_faults(mesh, contract)]
    if not faults:
        faults = [*_backend_faults(mesh, contract)]
    if faults:
        raise RenderError("\n".join(faults))


def services_of(mesh: Mesh, node: str) -> tuple[str, ...]:
    """The proto services that a node serves."""
    return tuple(dict.fromkeys(route.grpc_route.match.service_name for route in mesh.routes_to(node)))


def rpcs_of(mesh: Mesh, contract: Contract, node: str) -> tuple[Rpc, ...]:
    """The RPCs that a node serves."""
    return tuple(rpc for service in services_of(mesh, node) for rpc in contract.services[service])


def callers(mesh: Mesh, contract: Contract, node: str, rpc: Rpc) -> frozenset[str]:
    """The nodes (and the gateway) whose identity is admitted to an RPC of `node`.

    Internal RPCs admit those that the rule names; `*` is every node and never the gateway. RPCs that demand a token
    come from the gateway only. Public ones may also come from the nodes that have this one as a backend, and the JWKS
    from every sidecar.
    """
    match rpc.access.WhichOneof("kind"):
        case "internal":
            named = frozenset(rpc.access.internal.callers)
            return frozenset(mesh.nodes) if "*" in named else named
        case "public":
            if rpc == jwks_rpc(mesh, contract):
                return frozenset({*mesh.nodes, mesh.virtual_gateway.name})
            return frozenset(
                {mesh.virtual_gateway.name, *(name for name in mesh.nodes if node in mesh.backend_nodes(name))}
            )
        case "authenticated":
            return frozenset({mesh.virtual_gateway.name})
        case _:
            return frozenset()


def jwks_rpc(mesh: Mesh, contract: Contract) -> Rpc:
    """The RPC behind the path that mesh.yaml names for the JWKS.

    Raises:
        RenderError: the named virtual service has no public GET with that path.
    """
    node = mesh.jwks_node()
    for rpc in rpcs_of(mesh, contract, node):
        if (
            any(binding.method == "GET" and binding.template == mesh.jwks.path for binding in rpc.http)
            and rpc.access.WhichOneof("kind") == "public"
        ):
            return rpc
    raise RenderError(f"jwks: {mesh.jwks.virtual_service} has no public RPC with GET {mesh.jwks.path}")


def _route_faults(mesh: Mesh, contract: Contract) -> Iterator[str]:
    routed: dict[str, set[str]] = {}
    for router in mesh.virtual_routers:
        for route in router.routes:
            match = route.grpc_route.match
            routed.setdefault(match.service_name, set()).add(router.name)
            if match.service_name not in contract.services:
                yield (
                    f"virtualRouters {router.name}: route {route.name} is for "
                    f"{match.service_name}, which is not in the contract"
                )
            elif match.method_name and f"/{match.service_name}/{match.method_name}" not in contract.rpcs:
                method = f"{match.service_name}/{match.method_name}"
                yield f"virtualRouters {router.name}: route {route.name} is for {method}, which is not in the contract"
    for service in contract.services:
        match len(routed.get(service, ())):
            case 0:
                yield f"{service}: no virtual router serves it"
            case 1:
                pass
            case _:
                yield f"{service}: served by more than one virtual router: {', '.join(sorted(routed[service]))}"
    known = {rpc.path for rpc in contract.rpcs.values()}
    for limit in mesh.virtual_gateway.rate_limits:
        yield from (
            f"virtualGateway: rate limit for {path}, which is not in the contract"
            for path in limit.methods
            if path not in known
        )
    for path in mesh.virtual_gateway.cookie_methods:
        if path not in known:
            yield f"virtualGateway: cookies for {path}, which is not in the contract"


def _gateway_faults(mesh: Mesh, contract: Contract) -> Iterator[str]:
    opened = {route.match.service_name: route for route in mesh.gateway_routes}
    for service, rpcs in contract.services.items():
        for rpc in rpcs:
            kind = rpc.access.WhichOneof("kind")
            if kind is None:
                yield f"{rpc.path}: has no access rule"
            elif kind == "internal" and service in opened:
                yield (
                    f"{rpc.path}: is internal, but gatewayRoutes {opened[service].name} opens "
                    f"{service} at {mesh.virtual_gateway.name}"
                )
            elif kind != "internal" and service not in opened:
                yield f"{rpc.path}: is for clients, but no gateway route of {mesh.virtual_gateway.name} opens {service}"
    for service, route in opened.items():
        served = {item.grpc_route.match.service_name for item in mesh.routes_of(route.virtual_service)}
        if service not in served:
            yield f"gatewayRoutes {route.name}: {route.virtual_service} does not serve {service}"


def _backend_faults(mesh: Mesh, contract: Contract) -> Iterator[str]:
    for node in mesh.nodes:
        reasons: set[str] = set()
        for rpc in rpcs_of(mesh, contract, node):
            named = set(rpc.access.internal.callers)
            yield from (
                f"{rpc.path}: its access rule names {name}, which is not a virtual node"
                for name in sorted(named - {"*", *mesh.nodes})
            )
            admitted = set(mesh.nodes) - {node} if "*" in named else named & set(mesh.nodes)
            reasons |= admitted
            for caller in sorted(admitted):
                if node not in mesh.backend_nodes(caller):
                    yield (
                        f"{rpc.path}: its access rule names {caller}, but virtual node {caller} "
                        f"does not list {node} among its backends"
                    )
        for caller in mesh.nodes:
            if node in mesh.backend_nodes(caller) and caller not in reasons:
                served = ", ".join(services_of(mesh, node))
                yield (
                    f"virtual node {caller} lists {node} among its backends, but no access rule "
                    f"of {served} names {caller}"
                )
