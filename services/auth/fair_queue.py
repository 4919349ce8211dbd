"""A queue that shares what is scarce among networks.

Who has had least is served first, and who asks for most is shed first.

Networks lie in one another, and shares do too: a customer's is divided among its hosts. So an attacker who owns a whole
network, or many hosts in it, has that network's share and no more, and someone who hasn't asked for anything lately
comes next.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from cachetools import LRUCache

HALF_LIFE = 60.0
"""Seconds after which what a network had counts half."""
REMEMBERED = 16_384
"""Networks that are remembered, some 300 bytes each. Those that are silent longest are forgotten: they are as good as
new."""

Item = TypeVar("Item", bound=Hashable)


class _Node(Generic[Item]):
    """A network with items waiting, in networks inside of it or by itself."""

    __slots__ = ("children", "items", "waiting")

    def __init__(self) -> None:
        self.children: dict[str, _Node[Item]] = {}
        self.items: dict[Item, None] = {}
        """In order of arrival."""
        self.waiting = 0


@dataclass(slots=True)
class _Record:
    """What a network has asked for and had, both counting half after each half-life."""

    asked: float
    had: float
    moment: float


class FairQueue(Generic[Item]):
    """Items that wait, each under the networks that it came from. The caller bounds it: `shed` makes room."""

    def __init__(self, *, half_life: float = HALF_LIFE, remembered: int = REMEMBERED) -> None:
        self._root: _Node[Item] = _Node()
        self._paths: dict[Item, Sequence[str]] = {}
        self._records: LRUCache[str, _Record] = LRUCache(remembered)
        self._half_life = half_life

    def __len__(self) -> int:
        return len(self._paths)

    def put(self, item: Item, networks: Sequence[str], now: float) -> None:
        """Adds an item.

        Args:
            item: Different from all that wait.
            networks: Where it came from, from the widest to the narrowest: at least one.
            now: Seconds on a clock that never goes back.
        """
        for network in networks:
            self._record(network, now).asked += 1
        self._paths[item] = networks
        node = self._root
        for network in networks:
            node.waiting += 1
            node = node.children.setdefault(network, _Node())
        node.waiting += 1
        node.items[item] = None

    def take(self, now: float) -> Item:
        """Removes the next item, and charges it to its networks.

        At each width the one that has had least; of equals the one that asked least often, and then the first comer.

        Raises:
            IndexError: nothing waits.
        """
        node = self._root
        while node.children:
            node = node.children[min(node.children, key=partial(self._use, now))]
        item = next(iter(node.items), None)
        if item is None:
            raise IndexError("nothing waits")
        for network in self._paths[item]:
            self._record(network, now).had += 1
        self.discard(item)
        return item

    def shed(self, now: float) -> Item:
        """Removes the item that there is no room for.

        The newest of the network that has most, had or waiting, at each width. Of equals it is the one that asked most
        often.

        Raises:
            IndexError: nothing waits.
        """
        node = self._root
        while node.children:
            # Of equals even in that the last comer, whom `max` finds first this way.
            node = node.children[max(reversed(node.children), key=partial(self._greed, node.children, now))]
        item = next(reversed(node.items), None)
        if item is None:
            raise IndexError("nothing waits")
        self.discard(item)
        return item

    def discard(self, item: Item) -> None:
        """Removes an item, if it waits."""
        networks = self._paths.pop(item, None)
        if networks is None:
            return
        nodes = [self._root]
        for network in networks:
            nodes.append(nodes[-1].children[network])
        del nodes[-1].items[item]
        for node in nodes:
            node.waiting -= 1
        for parent, network, child in zip(nodes, networks, nodes[1:], strict=False):
            if not child.waiting:
                del parent.children[network]
                break

    def _use(self, now: float, network: str) -> tuple[float, float]:
        record = self._record(network, now)
        return record.had, record.asked

    def _greed(self, children: Mapping[str, _Node[Item]], now: float, network: str) -> tuple[float, float]:
        record = self._record(network, now)
        return record.had + children[network].waiting, record.asked

    def _record(self, network: str, now: float) -> _Record:
        record = self._records.get(network) or _Record(0, 0, now)
        decay = 0.5 ** ((now - record.moment) / self._half_life)
        record.asked, record.had, record.moment = record.asked * decay, record.had * decay, now
        self._records[network] = record
        return record
