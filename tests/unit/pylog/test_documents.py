"""The examples of the library's documents, run as they stand, each document in a directory and a process of its own."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENTS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["quickstart.md", "howto.md"])
def test_every_example_runs(name: str, tmp_path: Path) -> None:
    text = (DOCUMENTS / name).read_text()
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert len(blocks) > 4
    # Blank lines in place of the prose, so that a traceback names the document's line.
    code = ""
    for block in blocks:
        line = text.count("\n", 0, block.start(1))
        code += "\n" * (line - code.count("\n")) + block.group(1)
    script = tmp_path / name
    script.write_text(code)
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", str(script)],
        cwd=tmp_path / "empty",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
