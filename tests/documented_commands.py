"""Find the commands in the documents: fenced `bash` blocks, and commands between backticks."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import dataclass
from functools import cache
from typing import Any

from student_success.core.paths import ROOT

HISTORY = "CHANGELOG.md"
"""Names commands of earlier releases."""
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^ *```$", re.M | re.S)
LANGUAGES = {"bash", "dotenv", "json", "mermaid", "toml"}
"""A block of commands is `bash`, because blocks of other languages are not run."""
FIRST_WORD = re.compile(r"(?:[A-Z_]+=\S* )*[$.]?[a-z][\w./-]*;? ")
"""How a command of at least two words begins."""


LISTED: list[dict[str, Any]] = tomllib.loads(
    (ROOT / "tests" / "documented_commands.toml").read_text("utf-8")
)["listed"]
"""The commands that `e2e/test_documented_commands.py` does not run as printed."""


@dataclass(frozen=True)
class Script:
    """The commands of one block, which share a shell, or one command between backticks."""

    document: str
    lines: tuple[str, ...]


def name_of(command: str) -> str:
    """Return the first line of a command without the comment beside it, by which it is listed."""
    return re.sub(r"\s+# .*$|\s*\\?$", "", command.split("\n")[0])


def listed(command: str) -> dict[str, Any] | None:
    """Return the entry of a command that is not run as printed."""
    name = name_of(command)
    return next((e for e in LISTED if name in map(str.strip, e["commands"])), None)


def commands_of(test: str) -> list[str]:
    """Return the commands whose entry names a test, as printed, in the order of the documents."""
    printed = (line for name in documents() for script in scripts(name) for line in script.lines)
    return [line for line in dict.fromkeys(printed) if test_named_by(listed(line)) == test]


def test_named_by(entry: dict[str, Any] | None) -> str | None:
    """Return the name of the test in an entry."""
    named: str = (entry or {}).get("run_by") or (entry or {}).get("like", "")
    return named.partition("::")[2] or None


def split(block: str) -> list[str]:
    """Return the commands of a block; a command goes on until `bash` can parse it."""
    commands: list[str] = []
    begun = ""
    for line in block.splitlines():
        if not begun and (not line.strip() or line.startswith("#")):
            continue
        begun += line
        parsed = subprocess.run(["bash", "-n", "-c", begun], capture_output=True, check=False)
        if parsed.returncode or begun.endswith("\\"):
            begun += "\n"
        else:
            commands.append(begun)
            begun = ""
    assert not begun, f"not a command: {begun}"
    return commands


@cache
def documents() -> list[str]:
    """Return the documents that are tracked."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [name for name in tracked.stdout.splitlines() if name != HISTORY]


@cache
def scripts(document: str) -> tuple[Script, ...]:
    """Return the blocks and inline commands of a document, in its order; repeated ones once."""
    text = (ROOT / document).read_text("utf-8")
    found: list[Script] = []
    end = 0
    for fence in FENCE.finditer(text):
        found += _inline(document, text[end : fence.start()])
        end = fence.end()
        assert fence[2] in LANGUAGES, f"{document}: ```{fence[2]}"
        if fence[2] == "bash":
            block = re.sub(f"^{fence[1]}", "", fence[3], flags=re.M)
            found.append(Script(document, tuple(split(block))))
    found += _inline(document, text[end:])
    return tuple(dict.fromkeys(found))


def _inline(document: str, text: str) -> list[Script]:
    found = []
    for paragraph in re.split(r"\n\s*\n|\n(?=\|)", text):
        assert paragraph.count("`") % 2 == 0, f"{document}: a backtick alone: {paragraph}"
        for span in re.findall(r"`([^`]+)`", paragraph):
            words = " ".join(span.split())
            if FIRST_WORD.match(words + ("" if " " in words else ":")):
                found.append(Script(document, (words,)))
    return found
