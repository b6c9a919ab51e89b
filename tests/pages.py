"""What README.md and docs/*.md show and name: blocks of output and where they are from, commands, links, headings.

A block of output is indented by four spaces, `...` in it stands for lines left out, and the paragraph or comment before it
says where it is from:

    <!-- run: COMMAND -->           what that prints; numbers may be others, as times are on each machine
    <!-- run exactly: COMMAND -->   what that prints, numbers included
    <!-- test: NAME -->             a test of that name holds it
    taken on 2026-11-27             it took too long, or something rare, to be run again

A page's commands run one after the other in one folder; a Python block that begins with `# NAME.py` is a file in it. What is
indented and no output is a command (`bncli ...`) or has a fence ("```text").
"""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = ("bncli ", "python ", "sbatch ", "$ ")
SOURCE = re.compile(r"<!-- (run|run exactly|test): (.*?) -->", re.DOTALL)
TAKEN = re.compile(r"\btaken\s+on\s+(\d{4}-\d\d-\d\d)\b")


@dataclass(frozen=True)
class Output:
    """A block of output: where it stands, its lines, and what it says of where they are from."""

    place: str
    lines: tuple[str, ...]
    kind: str  # run, run exactly, test, taken, or nothing
    source: str  # the command, the test's name, the date


def fences(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def without_fences(text: str) -> str:
    """The text with nothing between fences, so that lines keep their numbers."""
    fence = re.compile(r"^```\w*\n.*?^```", re.DOTALL | re.MULTILINE)
    return fence.sub(lambda found: "```" + "\n" * found[0].count("\n"), text)


def _indented(text: str) -> list[tuple[int, list[str], str]]:
    """Each indented block that follows an empty line: its line number, its lines, and the paragraph before it."""
    lines = [*without_fences(text).split("\n"), "end"]
    blocks, start, before = [], 0, ""
    for number, line in enumerate(lines):
        if line.startswith("    ") and not start and not lines[number - 1]:
            start = number
        elif start and line and not line.startswith("    "):
            blocks.append((start + 1, [each[4:] for each in lines[start:number] if each], before))
            start = 0
        if line and not start and not line.startswith("    "):
            before = f"{before}\n{line}" if lines[number - 1] else line
    return blocks


def outputs(path: Path) -> list[Output]:
    """The blocks of output of a page; commands that are indented are none."""
    found = []
    for number, lines, before in _indented(path.read_text()):
        if all(line.startswith(COMMANDS) for line in lines):
            continue
        kind, source = "", ""
        if taken := TAKEN.search(before):
            kind, source = "taken", taken[1]
        elif marks := SOURCE.findall(before):
            kind, source = marks[-1]
        found.append(Output(f"{path.relative_to(ROOT)}:{number}", tuple(lines), kind, " ".join(source.split())))
    return found


def normalise(line: str, exactly: bool) -> str:
    """A line in which only what must be equal is left: spaces are one, numbers are `#` unless they count."""
    words = " ".join(line.split())
    return words if exactly else re.sub(r"[-+±]?\d[\d,]*(\.\d+)?(e[-+]?\d+)?", "#", words)


def difference(shown: tuple[str, ...], printed: str, exactly: bool) -> str:
    """What of a shown block was not printed, in order and (but for `...`) without anything between; or nothing."""
    there = [normalise(line, exactly) for line in printed.splitlines() if line.strip()]
    place, gap = 0, False
    for line in shown:
        if line.strip() == "...":
            gap = True
            continue
        wanted = normalise(line, exactly)
        rest = there[place:] if gap else there[place : place + 1]
        if wanted not in rest:
            return f"not printed{' any more' if gap else ' next'}: {line.strip()}\ninstead: {there[place : place + 3]}"
        place, gap = place + rest.index(wanted) + 1, False
    return "" if gap or place == len(there) else f"printed as well: {there[place]}"


def commands(path: Path) -> list[str]:
    """Every command of bncli that a page shows: in `sh` blocks, indented, in `code`, and in marks of output."""
    text = path.read_text()
    lines = [line for language, block in fences(text) if language == "sh" for line in block.splitlines()]
    lines += [line for _, block, _ in _indented(text) for line in block if line.startswith(COMMANDS)]
    lines += re.findall(r"`(bncli [^`]+)`", without_fences(text))
    lines += [command for kind, command in SOURCE.findall(text) if kind != "test"]
    parts = [
        part.strip() for line in lines for part in re.split(r"&&|\|\||;|(?<!\\)\|| # |\$\(", " ".join(line.split()))
    ]
    return [part.removeprefix("$ ") for part in parts if part.removeprefix("$ ").startswith("bncli ")]


def links(path: Path) -> list[str]:
    """The relative links and pictures of a page."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", without_fences(path.read_text())))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(path: Path) -> set[str]:
    """What a link's part after `#` may be: headings as GitHub names them."""
    titles = re.findall(r"^#+ (.*)$", without_fences(path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def check(path: Path, folder: Path) -> list[str]:
    """Run a page's commands in a folder; what of the output that it shows is not what they print, a text each."""
    (folder / "bncli").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m bncli "$@"\n')
    (folder / "bncli").chmod(0o755)
    for language, block in fences(path.read_text()):
        if language == "python" and (name := re.match(r"# (\w+\.py)\n", block)):
            (folder / name[1]).write_text(block)
    program = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    known = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PATH": program, "PYTHONPATH": known, "COLUMNS": "116"}
    wrong, printed = [], dict[str, str]()
    for each in outputs(path):
        if each.kind not in ("run", "run exactly"):
            continue
        if each.source not in printed:
            done = subprocess.run(each.source, shell=True, cwd=folder, capture_output=True, text=True, env=environment)
            printed[each.source] = done.stdout
        if found := difference(each.lines, printed[each.source], each.kind == "run exactly"):
            wrong.append(f"{each.place}: {each.source}: {found}")
    return wrong
