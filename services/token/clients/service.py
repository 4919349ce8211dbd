"""ClientService: translate, delegate, and nothing else."""

from collections.abc import Sequence
from typing import Any

from authmesh.token.v1 import client_service_pb2, client_service_pb2_grpc
from google.protobuf import empty_pb2
from google.protobuf.duration_pb2 import Duration
from grpc import aio

from mesh.errors import field_invalid
from mesh.resources.name import CLIENT
from mesh.resources.pagination import Paging
from mesh.rpc.caller import caller_claims
from services.token.clients.admin import ClientAdmin, client_id_of
from services.token.clients.client import CONTRACT_NAMES, Client, ClientRecord

Context = aio.ServicerContext[Any, Any]

_MODEL_NAMES = {contract: model for model, contract in CONTRACT_NAMES.items()}
_CHANGEABLE = tuple(CONTRACT_NAMES.get(name, name) for name in Client.model_fields)


class ClientService(client_service_pb2_grpc.ClientServiceServicer):
    """Clients, for administrators."""

    def __init__(self, clients: ClientAdmin) -> None:
        """Initializes the instance.

        Args:
            clients: Adds, changes and removes them.
        """
        self._clients = clients

    async def CreateClient(
        self, request: client_service_pb2.CreateClientRequest, context: Context
    ) -> client_service_pb2.Client:
        """Adds a client."""
        given = request.client
        fields = [
            name for name in _CHANGEABLE if name in ("display_name", "confidential", "scopes") or _is_set(given, name)
        ]
        return _message(
            await self._clients.create(CLIENT.id(given.name), _values(given, fields), caller_claims().scopes)
        )

    async def GetClient(
        self, request: client_service_pb2.GetClientRequest, context: Context
    ) -> client_service_pb2.Client:
        """Reads a client."""
        return _message(await self._clients.get(CLIENT.id(request.name)))

    async def ListClients(
        self, request: client_service_pb2.ListClientsRequest, context: Context
    ) -> client_service_pb2.ListClientsResponse:
        """A page of clients."""
        paging = Paging(request, "clients", client_id_of)
        page, next_page_token = paging.cut(
            await self._clients.page(paging.after or "", paging.size + 1), lambda client: client.id
        )
        return client_service_pb2.ListClientsResponse(clients=map(_message, page), next_page_token=next_page_token)

    async def UpdateClient(
        self, request: client_service_pb2.UpdateClientRequest, context: Context
    ) -> client_service_pb2.Client:
        """Changes a client."""
        given = request.client
        values = _values(given, request.update_mask.paths)
        return _message(await self._clients.update(CLIENT.id(given.name), values, given.etag, caller_claims().scopes))

    async def DeleteClient(self, request: client_service_pb2.DeleteClientRequest, context: Context) -> empty_pb2.Empty:
        """Removes a client."""
        await self._clients.delete(CLIENT.id(request.name), request.etag)
        return empty_pb2.Empty()


def _is_set(given: client_service_pb2.Client, name: str) -> bool:
    return given.HasField(name) if name in _MODEL_NAMES else bool(getattr(given, name))  # type: ignore[arg-type]


def _values(given: client_service_pb2.Client, fields: Sequence[str]) -> dict[str, Any]:
    """Fields of `Client` by its own names."""
    values: dict[str, Any] = {}
    for name in fields:
        if name in _MODEL_NAMES:
            model_name = _MODEL_NAMES[name]
            default = Client.model_fields[model_name].default
            values[model_name] = _seconds(given, name) if given.HasField(name) else default  # type: ignore[arg-type]
        else:
            values[name] = list(given.scopes) if name == "scopes" else getattr(given, name)
    return values


def _seconds(given: client_service_pb2.Client, name: str) -> int:
    duration: Duration = getattr(given, name)
    if duration.nanos:
        raise field_invalid(f"client.{name}", "must be whole seconds")
    return duration.seconds


def _message(registered: ClientRecord) -> client_service_pb2.Client:
    client = registered.client
    message = client_service_pb2.Client(
        name=CLIENT.of(registered.id),
        display_name=client.display_name,
        confidential=client.confidential,
        scopes=sorted(client.scopes),
        session_limit=client.session_limit,
        instance_required=client.instance_required,
        jwks=client.jwks,
        disabled=client.disabled,
        etag=registered.etag,
    )
    for model_name, name in CONTRACT_NAMES.items():
        getattr(message, name).seconds = getattr(client, model_name)
    return message
