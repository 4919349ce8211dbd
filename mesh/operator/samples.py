"""What the nodes of a mesh tell by their metrics, and what happened between two such looks."""

import asyncio
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from rich.text import Text

SCRAPE_SECONDS = 2.0
"""For one answer."""

Labels = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """What a node told, and when."""

    at: float
    values: Mapping[str, Sequence[tuple[Labels, float]]]

    @classmethod
    def parse(cls, text: str, at: float) -> "Sample":
        """Of Prometheus's text format."""
        values: dict[str, list[tuple[Labels, float]]] = {}
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                values.setdefault(one.name, []).append((one.labels, one.value))
        return cls(at, values)

    def total(self, name: str, having: Labels | None = None) -> float:
        """The sum of a metric over all labels that are not named."""
        wanted = (having or {}).items()
        return sum(value for labels, value in self.values.get(name, ()) if wanted <= labels.items())

    def by(self, name: str, *labels: str, having: Labels | None = None) -> dict[tuple[str, ...], float]:
        """The sums of a metric by some of its labels."""
        found: dict[tuple[str, ...], float] = {}
        for labelled, value in self.values.get(name, ()):
            if (having or {}).items() <= labelled.items():
                key = tuple(labelled.get(label, "") for label in labels)
                found[key] = found.get(key, 0.0) + value
        return found


async def samples(pages: Mapping[str, str]) -> dict[str, Sample | None]:
    """What every node says now; None of one that does not answer.

    Args:
        pages: Where the metrics of each are.
    """
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=SCRAPE_SECONDS)) as session:

        async def ask(page: str) -> Sample | None:
            try:
                async with session.get(page) as answer:
                    return Sample.parse(await answer.text(), time.monotonic()) if answer.status == 200 else None
            except (aiohttp.ClientError, TimeoutError, ValueError):
                return None

        answers = await asyncio.gather(*map(ask, pages.values()))
    return dict(zip(pages, answers, strict=True))


def since(before: float, after: float) -> float:
    """How much a counter counted; a process that started anew in between begins at nothing."""
    return after - before if after >= before else after


def quantiles(before: Sample, after: Sample, name: str, having: Labels | None = None) -> Iterator[float]:
    """p50 and p99, as `histogram_quantile` finds them: within a bucket, evenly."""
    earlier = before.by(f"{name}_bucket", "le", having=having)
    counts = sorted(
        (float(limit), since(earlier.get((limit,), 0.0), count))
        for (limit,), count in after.by(f"{name}_bucket", "le", having=having).items()
    )
    total = counts[-1][1] if counts else 0.0
    for quantile in (0.5, 0.99):
        found, lower, below = math.nan, 0.0, 0.0
        for limit, count in counts if total else ():
            if count >= quantile * total:
                share = (quantile * total - below) / (count - below) if count > below else 1.0
                found = lower + (limit - lower) * share if math.isfinite(limit) else lower
                break
            lower, below = limit, count
        yield found


def seconds(value: float | None, marked: float) -> Text:
    """A duration for a table, red from `marked` on."""
    if value is None or math.isnan(value):
        return Text("-", "dim")
    text = "never" if math.isinf(value) else f"{value * 1000:.1f} ms" if value < 1 else f"{value:.1f} s"
    return Text(text, "bold red" if value >= marked else "")
