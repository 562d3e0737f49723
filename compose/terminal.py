"""What the embedded stack says to who started it."""

import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text
from typing_extensions import override

from compose.console import counted

_LABEL = 11


class Terminal(Console):
    """A console that outlives its terminal: what cannot be written is lost, nothing fails."""

    @override
    def on_broken_pipe(self) -> None:
        self.quiet = True

    def step(self, what: str, how: str, *, well: bool = True) -> None:
        """Say that a part is ready, or what it lacks."""
        mark = ("✓", "green") if well else ("!", "yellow")
        self.words(Text.assemble("  ", mark, " ", what.ljust(_LABEL), (how, "")))

    def words(self, text: Text | str, style: str = "") -> None:
        """Say it, wrapped at the width of the terminal."""
        self._safely(text, style=style)

    def copyable(self, text: str, style: str = "") -> None:
        """Say it without line breaks of our own, so that it can be copied."""
        self._safely(text, style=style, soft_wrap=True)

    def _safely(self, text: Text | str, *, style: str, soft_wrap: bool = False) -> None:
        try:
            self.print(text, style=style, soft_wrap=soft_wrap)
        except OSError:  # the terminal is gone
            self.quiet = True


def open_terminal() -> Terminal:
    """Return stdout as a terminal; signs it cannot show become question marks."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="replace")
    return Terminal(highlight=False, markup=False, emoji=False)


def banner(terminal: Terminal, *, url: str, key: str, model: str, folder: Path) -> None:
    """Say where it serves, with what key, and give two calls to copy."""
    where = shown_path(folder)
    terminal.words("")
    for label, text in (
        ("URL", f"{url}/v1"),
        ("Key", key),
        ("Docs", f"{url}/docs"),
        ("Data", f"{where} (database, keys, config.yaml, logs/)"),
        ("Stop", "Ctrl-C"),
    ):
        terminal.copyable(f"  {label.ljust(6)}{text}")
    terminal.words("\nAsk from a shell:\n", style="bold")
    terminal.copyable(curl_call(url, key, model), style="cyan")
    terminal.words("\nAsk with the OpenAI SDK (pip install openai):\n", style="bold")
    terminal.copyable(sdk_call(url, key, model), style="cyan")
    terminal.words("")


def curl_call(url: str, key: str, model: str) -> str:
    """Return a call for a shell."""
    return (
        f"curl {url}/v1/chat/completions \\\n"
        f'  -H "Authorization: Bearer {key}" \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f'  -d \'{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello!"}}]}}\''
    )


def sdk_call(url: str, key: str, model: str) -> str:
    """Return a call for Python."""
    return (
        "from openai import OpenAI\n\n"
        f'client = OpenAI(\n    base_url="{url}/v1",\n    api_key="{key}",\n)\n'
        "answer = client.chat.completions.create(\n"
        f'    model="{model}", messages=[{{"role": "user", "content": "Hello!"}}]\n'
        ")\n"
        "print(answer.choices[0].message.content)"
    )


def shown_path(path: Path) -> str:
    """Return the path as short as it stays right from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def models_found(names: list[str], models: int) -> str:
    """Return what can be asked for, in words."""
    return f"{counted(models, 'model')} of {', '.join(names)}"
