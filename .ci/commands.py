"""Print the commands that a reader is told to type: each line of each ``sh`` block, in order, once.

Only ``sh`` blocks are commands.  What must not run in a check (accelerator wheels of gigabytes, agreement
runs that take long) stands in ``text`` blocks, which a reader can copy just as well.

Usage: ``python3 .ci/commands.py README.md CONTRIBUTING.md``
"""

import re
import sys
from pathlib import Path


def blocks(markdown: str, language: str) -> list[str]:
    """Return the contents of the fenced blocks of one language, in order."""
    return re.findall(rf"^```{re.escape(language)}\n(.*?)^```$", markdown, re.DOTALL | re.MULTILINE)


def commands(markdown: str) -> list[str]:
    """Return the lines of the ``sh`` blocks, without empty lines and comments."""
    lines = [line.strip() for block in blocks(markdown, "sh") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


if __name__ == "__main__":
    for command in dict.fromkeys(line for name in sys.argv[1:] for line in commands(Path(name).read_text("utf-8"))):
        print(command)
