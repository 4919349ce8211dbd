import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.errors import InvalidArgument, Reason
from mesh.resources import page_token


@given(st.text(max_size=50), st.text(max_size=200))
def test_a_token_gives_back_its_key(list_name: str, key: str) -> None:
    try:
        token = page_token.encode(list_name, key)
    except UnicodeEncodeError:
        return
    assert page_token.decode(list_name, token) == key


@given(st.text(max_size=400))
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        page_token.decode("resources/ada", text)
    assert caught.value.reason is Reason.FIELD_INVALID
    assert [violation.field for violation in caught.value.violations] == ["page_token"]


def test_a_token_of_another_list_is_refused_by_the_name_of_its_field() -> None:
    token = page_token.encode("resources/ada", "5")
    with pytest.raises(InvalidArgument) as caught:
        page_token.decode("resources/bob", token, field="resume_token")
    assert [violation.field for violation in caught.value.violations] == ["resume_token"]


def test_a_key_that_is_no_utf8_is_refused() -> None:
    import base64

    raw = base64.urlsafe_b64decode(page_token.encode("resources/ada", "x") + "==")[:-1] + b"\xff"
    with pytest.raises(InvalidArgument):
        page_token.decode("resources/ada", base64.urlsafe_b64encode(raw).rstrip(b"=").decode())
