"""Pages of a list (AIP-158): one default size, one kind of token, one refusal."""

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from mesh.errors import field_invalid
from mesh.resources import page_token

DEFAULT_PAGE_SIZE = 50
"""Items of a page when the request doesn't say. The most is in the contract: 200."""

Item = TypeVar("Item")
Key = TypeVar("Key")


class PageRequest(Protocol):
    """A request for a page of a list."""

    page_size: int
    page_token: str


class Paging(Generic[Key]):
    """Where a page begins, and how large it is."""

    def __init__(self, request: PageRequest, list_name: str, parse: Callable[[str], Key]) -> None:
        """Initializes the instance.

        Args:
            request: Asks for the page.
            list_name: Which list, of whom, under which filters: a token is valid for it alone.
            parse: Reads the key of a token. Raises ValueError: a client can make tokens.

        Raises:
                InvalidArgument: FIELD_INVALID `page_token`.
        """
        self._list_name = list_name
        self.size = request.page_size or DEFAULT_PAGE_SIZE
        self.after: Key | None = None
        """The key of the last item of the page before."""
        if request.page_token:
            try:
                self.after = parse(page_token.decode(list_name, request.page_token))
            except (ValueError, OverflowError):
                raise field_invalid("page_token", "is not a token of this list") from None

    def cut(self, found: Sequence[Item], key: Callable[[Item], object]) -> tuple[Sequence[Item], str]:
        """The page, and the token of the next one, which is empty behind the last.

        Args:
            found: The items from `after` on, one more than `size` where there are as many.
            key: Of an item.
        """
        page = found[: self.size]
        return page, self.token_behind(key(page[-1])) if len(found) > self.size else ""

    def token_behind(self, key: object) -> str:
        """The token of the page behind an item."""
        return page_token.encode(self._list_name, str(key))
