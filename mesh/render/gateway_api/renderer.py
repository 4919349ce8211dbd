"""The files of the Gateway API target. What the flavor can't hold is refused, or accepted and listed in each file."""

from dataclasses import dataclass

from mesh.contract import Contract
from mesh.model.agreement import RenderError, check_agreement
from mesh.model.mesh import Mesh
from mesh.render.envoy.placement import TokenRules
from mesh.render.gateway_api.flavor import FLAVORS
from mesh.render.gateway_api.routes import gateway, opened
from mesh.render.kubernetes.objects import Object, documents
from mesh.render.renderer import Files, without


@dataclass(frozen=True, slots=True)
class GatewayApiRenderer:
    """`gateway.yaml`, `routes.yaml` and `policies.yaml`."""

    tokens: TokenRules
    namespace: str
    flavor: str
    """Key of `FLAVORS`."""
    accept_loss: bool = False
    target: str = "gateway-api"

    def render(self, mesh: Mesh, contract: Contract) -> Files:
        """All files.

        Raises:
            RenderError: mesh.yaml disagrees with the access rules, there is no such flavor, or it can't hold the mesh;
                with all that it can't.
        """
        check_agreement(mesh, contract)
        if self.flavor not in FLAVORS:
            raise RenderError(f"{self.flavor} is not a flavor of Gateway API: choose from {', '.join(FLAVORS)}")
        flavor = FLAVORS[self.flavor]
        head = without(flavor.name, flavor.lost, accepted=self.accept_loss)
        mesh = mesh.model_copy(update={"spiffe_path": f"ns/{self.namespace}/sa/{{node}}"})
        made = {
            "gateway": [gateway(mesh, flavor.class_name)],
            "routes": [opened(mesh, route) for route in mesh.gateway_routes],
            "policies": flavor.policies(mesh, contract, self.tokens, self.namespace),
        }
        return {f"{name}.yaml": head + documents(map(self._placed, found)) for name, found in made.items()}

    def _placed(self, found: Object) -> Object:
        return found | {
            "metadata": {"name": found["metadata"]["name"], "namespace": self.namespace} | found["metadata"]
        }
