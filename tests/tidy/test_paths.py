"""Nothing names a folder of the machine it was written on."""

import re

from tests.tidy.sources import ROOT

FOLDERS = ("pylog", "cluster", "csrc", "tests", "bench", ".ci")
# Archives and recorded bytes hold whatever they hold.
BINARY = {".gz", ".zst", ".lz4", ".so", ".pyc", ".bin", ".db", ".o"}
# Written so that this file does not match itself.
_MACHINE = re.compile(r"(?<![\w.~-])/(?:" + "|".join(("work", "root", "home", "farm")) + r")/(?!\w*\.\.\.)[\w.~-]")


def test_no_paths_of_a_machine() -> None:
    files = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    files += [path for path in ROOT.iterdir() if path.is_file()]
    wrong = []
    for path in files:
        if not path.is_file() or path.suffix in BINARY or "corpus" in path.parts or "__pycache__" in path.parts:
            continue
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
            if _MACHINE.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not wrong, "\n".join(wrong)
