"""The conventions of docs/contract.md, held over every RPC that they apply to. The RPCs are found by reflection, so
a new one is under them at once.
"""

from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from mesh.contract import Contract, Rpc
from mesh.errors import Aborted, InvalidArgument, Reason
from mesh.resources import field_mask
from mesh.resources.etag import etag_of, require_etag
from mesh.resources.pagination import DEFAULT_PAGE_SIZE, Paging
from mesh.rpc.fields import fields_of

CONTRACT = Contract.load()
MOST = 200
RPCS = sorted(CONTRACT.rpcs.values(), key=lambda rpc: rpc.path)


def request_of(rpc: Rpc) -> Any:
    return CONTRACT.message_type(rpc.input_type)()


def having(field: str) -> list[Any]:
    """The RPCs whose request has this field, as parameters of a test."""
    return [
        pytest.param(rpc, id=f"{rpc.service}/{rpc.name}")
        for rpc in RPCS
        if field in request_of(rpc).DESCRIPTOR.fields_by_name
    ]


def resource_of(request: Message) -> Any:
    update = field_mask.update_of(request.DESCRIPTOR)
    assert update is not None
    return getattr(request, update.resource)


def fill(message: Any, names: tuple[str, ...]) -> None:
    """Gives these fields values that are not their defaults."""
    for name in names:
        field = message.DESCRIPTOR.fields_by_name[name]
        if field.is_repeated:
            getattr(message, name).append("x")
        elif field.message_type is not None:
            getattr(message, name).seconds = 1
        else:
            setattr(message, name, {bool: True, str: "x", int: 1}[type(getattr(message, name))])


def test_there_are_rpcs_of_every_kind() -> None:
    for field in ("update_mask", "page_token", "request_id", "etag"):
        assert having(field), field


@pytest.mark.parametrize("rpc", [pytest.param(rpc, id=rpc.name) for rpc in RPCS if rpc.name.startswith("Update")])
def test_every_update_takes_a_mask_and_an_etag_in_its_resource(rpc: Rpc) -> None:
    request = request_of(rpc)
    assert request.DESCRIPTOR.fields_by_name["update_mask"].message_type.full_name == FieldMask.DESCRIPTOR.full_name
    assert "etag" in resource_of(request).DESCRIPTOR.fields_by_name


@pytest.mark.parametrize("rpc", having("update_mask"))
def test_a_mask_means_the_same_everywhere(rpc: Rpc) -> None:
    update = field_mask.update_of(request_of(rpc).DESCRIPTOR)
    assert update is not None
    assert update.changeable
    assert {"name", "etag"} <= update.said_in_vain
    assert not {"create_time", "update_time"} & set(update.changeable)

    def resolved(*paths: str, given: tuple[str, ...] = ()) -> list[str]:
        request = request_of(rpc)
        fill(resource_of(request), given)
        request.update_mask.paths.extend(paths)
        assert field_mask.resolve(request) is None
        return list(request.update_mask.paths)

    everything, first = list(update.changeable), update.changeable[0]
    assert resolved("*") == everything
    assert resolved("*", "etag") == everything
    # Without a mask: what is set and can be changed.
    assert resolved() == []
    assert resolved(given=(first, "etag", "name")) == [first]
    # A named field is changed, also to its default.
    assert resolved(first, first) == [first]
    # What can't be changed says nothing.
    assert resolved(*sorted(update.said_in_vain)) == []
    assert resolved(first, "etag", "name") == [first]
    for wrong in ("nonsense", "", f"{first}.x", f"{update.resource}.{first}", first.upper(), "x" * 10_000):
        request = request_of(rpc)
        request.update_mask.paths.extend([first, wrong])
        violation = field_mask.resolve(request)
        assert violation is not None
        assert violation.field == "update_mask"
        assert len(violation.description) < 400


@pytest.mark.parametrize("rpc", having("page_token"))
def test_a_page_token_is_good_for_its_list_alone(rpc: Rpc) -> None:
    request = request_of(rpc)
    assert {"page_size"} <= set(request.DESCRIPTOR.fields_by_name)
    assert "next_page_token" in CONTRACT.message_type(rpc.output_type).DESCRIPTOR.fields_by_name
    (token,) = (field for field in fields_of(request.DESCRIPTOR) if field.name == "page_token")
    assert token.characters == 1000
    assert Paging(request, "list", str).size == DEFAULT_PAGE_SIZE
    request.page_size = 2
    page, request.page_token = Paging(request, "list", str).cut(["a", "b", "c"], str)
    assert list(page) == ["a", "b"]
    assert Paging(request, "list", str).after == "b"
    assert Paging(request, "list", str).cut(["c"], str) == (["c"], "")
    for name, given in (("other", request.page_token), ("list", "nonsense"), ("list", "ü"), ("list", "a" * 999)):
        request.page_token = given
        with pytest.raises(InvalidArgument) as refused:
            Paging(request, name, str)
        assert refused.value.violations[0].field == "page_token"


def test_a_key_that_is_not_of_the_list_is_refused() -> None:
    request = request_of(next(rpc.values[0] for rpc in having("page_token")))
    request.page_token = Paging(request, "numbers", int).token_behind("x")
    with pytest.raises(InvalidArgument):
        Paging(request, "numbers", int)


def test_an_etag_is_of_one_state_of_one_resource() -> None:
    etags = {etag_of(name, version) for name in ("users/1", "users/11", "clients/1") for version in range(1, 100)}
    assert len(etags) == 3 * 99
    assert all(len(etag) == 16 for etag in etags)
    require_etag("a", "")
    require_etag("a", "a")
    with pytest.raises(Aborted) as refused:
        require_etag("a", "b")
    assert refused.value.reason is Reason.ETAG_MISMATCH


@pytest.mark.parametrize("rpc", [pytest.param(rpc, id=rpc.name) for rpc in RPCS if rpc.name.startswith("Delete")])
def test_every_delete_of_something_with_an_etag_takes_it(rpc: Rpc) -> None:
    kind = rpc.name.removeprefix("Delete")
    package = rpc.input_type.rpartition(".")[0]
    try:
        resource = CONTRACT.message_type(f"{package}.{kind}")()
    except KeyError:
        return
    if "etag" in resource.DESCRIPTOR.fields_by_name:
        assert "etag" in request_of(rpc).DESCRIPTOR.fields_by_name


@pytest.mark.parametrize("rpc", having("request_id"))
def test_a_request_id_is_a_uuid_everywhere(rpc: Rpc) -> None:
    (field,) = (field for field in fields_of(request_of(rpc).DESCRIPTOR) if field.name == "request_id")
    assert field.characters == 36
    assert not field.is_text
