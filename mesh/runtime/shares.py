"""Fair shares of what there is little of: no holder can take it all, and one that has nothing yet finds room."""

import asyncio


class Shares:
    """Places for several holders. The more one holds, the more must be free for it to get another.

    A holder gets a further place while it has less than `part` times what is free. Alone it takes `part / (1 + part)`
    of all places, and `n` greedy ones leave `1 / (1 + n * part)` of them to those who come later (dynamic thresholds:
    Choudhury and Hahne, 1998).
    """

    def __init__(self, places: int) -> None:
        """Initializes the instance.

        Args:
            places: How many there are.
        """
        self.free = places
        self.held: dict[str, int] = {}
        """Places of each holder that has any."""

    def take(self, holder: str, part: float = 1, kept: int = 0) -> bool:
        """Takes a place. Returns False when there is none, or no further one for this holder.

        Args:
            holder: Who; `""` is no one in particular, whom any free place will do.
            part: What the holder may have, as a multiple of what is free.
            kept: Free places that are not for this holder.
        """
        held, free = self.held.get(holder, 0), self.free - kept
        if free <= 0 or (held and holder and held >= part * free):
            return False
        self.free -= 1
        self.held[holder] = held + 1
        return True

    def leave(self, holder: str) -> None:
        """Gives a place back."""
        self.free += 1
        if (held := self.held[holder]) > 1:
            self.held[holder] = held - 1
        else:
            del self.held[holder]


class FairQueue:
    """Shares that are waited for: a free place goes to the one in the queue who holds the fewest."""

    def __init__(self, places: int, part: float = 1) -> None:
        """See `Shares`."""
        self._shares = Shares(places)
        self._part = part
        self._waiting: dict[asyncio.Future[None], str] = {}

    async def enter(self, holder: str, seconds: float) -> None:
        """Takes a place, as soon as there is one for this holder. Leave it afterwards.

        Raises:
            TimeoutError: there was none for so many seconds.
        """
        if self._shares.take(holder, self._part):
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[turn] = holder
        try:
            async with asyncio.timeout(seconds):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave(holder)
            raise
        finally:
            self._waiting.pop(turn, None)

    def leave(self, holder: str) -> None:
        """Gives a place back. It goes to the one who waits and holds the fewest; of several, to the longest waiting."""
        self._shares.leave(holder)
        if self._waiting:
            for turn, waiting in sorted(self._waiting.items(), key=lambda item: self._shares.held.get(item[1], 0)):
                if not turn.done() and self._shares.take(waiting, self._part):
                    turn.set_result(None)
