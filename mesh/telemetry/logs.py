"""The process's log: structured lines, and in none of them a value that someone has sent.

Our own lines say what their code gives them. Libraries print the arguments of what went wrong: headers with tokens in
them, statements with their parameters. Of their lines the template is kept and the arguments are dropped; of any
exception that is not ours, its type and where it was raised, and not its message.
"""

import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator, MutableMapping
from itertools import islice
from types import TracebackType
from typing import Any

import structlog

OURS = ("mesh", "services", "authmesh")
"""Packages and loggers whose words are ours."""

_FRAMES = 12
_EXCEPTIONS = 5
_MESSAGE_CHARACTERS = 200
# How a sentence begins that a library has put together itself: the words before the first value.
_FIRST_WORDS = re.compile(r"[A-Z]?[a-z']*(?: [a-z']+)*(?=[ :,.]|$)")
_PLACEHOLDER = re.compile(r"%(\([^)]*\))?[-#0 +]*[\d*.]*[a-zA-Z]|\{[^{}]*\}")

Processor = Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]


def configure_logging(level: str, *facts: Processor) -> None:
    """Sends every line of the process, the libraries' included, to standard output as one JSON object.

    Args:
        level: `debug`, `info`, `warning` or `error`.
        facts: Processors that add to every line.
    """
    shared: list[Any] = [
        structlog.stdlib.add_logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *facts,
        _exceptions_described,
    ]
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(_without_arguments)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    ours = logging.getLevelNamesMapping()[level.upper()]
    # Below a warning, libraries have nothing to say to an operator.
    logging.basicConfig(level=max(ours, logging.WARNING), handlers=[handler], force=True)
    logging.getLogger("authmesh").setLevel(ours)


def describe(error: BaseException) -> str:
    """An exception in a few lines.

    Its type, where it was raised, and the same of its causes; of ours, the message too.
    """
    return "\n".join(line for one in islice(_causes(error), _EXCEPTIONS) for line in _lines(one))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        if isinstance(error, BaseExceptionGroup):
            for part in error.exceptions:
                yield from _causes(part)
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _lines(error: BaseException) -> Iterator[str]:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    yield f"{name}: {said[:_MESSAGE_CHARACTERS]}" if (said := _said(error)) else name
    yield from (f"  {place}" for place in _places(error.__traceback__))


def _said(error: BaseException) -> str:
    if isinstance(error, OSError):
        # What the system says of its number. The file that it was about may be named by someone.
        return error.strerror or ""
    return str(error) if type(error).__module__.partition(".")[0] in OURS else ""


def _places(trace: TracebackType | None) -> Iterator[str]:
    frames = traceback.extract_tb(trace)
    for frame in frames[-_FRAMES:]:
        yield f"{'/'.join(frame.filename.rsplit('/', 3)[-3:])}:{frame.lineno} {frame.name}"


def _exceptions_described(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else given[1] if isinstance(given, tuple) else sys.exc_info()[1]
    if given and error:
        event["exception"] = describe(error)
    return event


def _without_arguments(record: logging.LogRecord) -> bool:
    """A filter that lets every record through, and takes off those of libraries what they were given."""
    if record.name.partition(".")[0] not in OURS:
        record.msg = _template(str(record.msg)) if record.args else _first_words(str(record.msg))
        record.args = None
        record.stack_info = None
    return True


def _template(text: str) -> str:
    return _PLACEHOLDER.sub("…", text.partition("\n")[0])[:_MESSAGE_CHARACTERS]


def _first_words(text: str) -> str:
    found = _FIRST_WORDS.match(text.partition("\n")[0])
    return f"{found[0][:_MESSAGE_CHARACTERS].strip()}…" if found and found[0] else "…"
