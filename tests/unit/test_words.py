"""What people read is written in the words of docs/glossary.md."""

import re
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
READ = ("README.md", "CONTRIBUTING.md", "docs/**/*.md", "mesh/**/*.py", "services/**/*", "protos/authmesh/**/*.proto")
WORDS = re.compile(
    r"\b(?:whoever|somebody|anybody|for ever|is away|are away)\b"
    # "is no UUID", and not "there is no token" or "is no longer".
    r"|(?<!there )\bis no (?!one\b|longer\b|more\b|next\b|unit\b)[a-z]+",
    re.IGNORECASE,
)


def written() -> Iterator[tuple[Path, int, str]]:
    for pattern in READ:
        for file in PROJECT.glob(pattern):
            if file.suffix in {".md", ".py", ".proto", ".yaml", ".txt", ".html"} and file.name != "glossary.md":
                for number, line in enumerate(file.read_text().splitlines(), 1):
                    yield file.relative_to(PROJECT), number, line


def test_what_people_read_is_in_plain_english() -> None:
    found = [f"{file}:{number}: {match[0]}" for file, number, line in written() for match in WORDS.finditer(line)]
    assert found == [], "see docs/glossary.md, How we write"
