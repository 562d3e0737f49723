"""The README's snippets, run as they stand; only the port is another."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.flows.dev.terminal import environment

README = (Path(__file__).parents[3] / "README.md").read_text()
SNIPPETS = [
    (language, code)
    for language, code in re.findall(
        r"^```(sh|python)\n(.*?)^```", README, re.MULTILINE | re.DOTALL
    )
    if "127.0.0.1:8080" in code
]
EXPECTED = {
    "curl -s": r'"content":"You said: Hello!"',
    "stream=True": r"You said: Tell me about sluices\.",
    "respond-async": r"202 job_\w+ queued\nsucceeded, 0\.0000\d+ USD\nYou said: Take your time\.",
}


def test_there_is_a_snippet_for_each_way_to_ask():
    assert ["sh", "python", "python"] == [language for language, _ in SNIPPETS]


@pytest.mark.parametrize("mark", EXPECTED)
def test_a_snippet_does_what_it_says(dev, mark):
    (snippet,) = [snippet for snippet in SNIPPETS if mark in snippet[1]]
    language, code = snippet
    program = [sys.executable, "-W", "error", "-c"] if language == "python" else ["/bin/sh", "-c"]

    done = subprocess.run(
        [*program, code.replace("127.0.0.1:8080", urlsplit(dev.url).netloc)],
        cwd=dev.home,
        env=environment({}),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert "" == done.stderr
    assert re.search(EXPECTED[mark], done.stdout), done.stdout
