"""Ollama whole: its native surface under `/api`, OpenAI's under `/v1`."""

from collections.abc import Callable

from tests.fakes.upstream import Answer, Recorded, Script
from tests.fakes.vendors.ollama import OllamaVendor
from tests.fakes.vendors.openai import OpenAIVendor
from tests.fakes.vendors.scenes import SceneVendor

Words = Callable[[SceneVendor], None]


class LocalVendor(SceneVendor):
    """Plays each scene on the surface that it is asked on."""

    def says(self, text: str) -> None:
        self._both(lambda vendor: vendor.says(text))

    def calls(self, *calls) -> None:
        self._both(lambda vendor: vendor.calls(*calls))

    def thinks(self, thought: str, text: str) -> None:
        self._both(lambda vendor: vendor.thinks(thought, text))

    def embeds(self, n_dims: int) -> None:
        self._both(lambda vendor: vendor.embeds(n_dims))

    def fails(self, status: int, kind: str) -> None:
        self._both(lambda vendor: vendor.fails(status, kind))

    def _both(self, words: Words) -> None:
        self.ticks += 1
        native, compatible = (self._scene(vendor, words) for vendor in (OllamaVendor, OpenAIVendor))

        def answer(request: Recorded) -> Answer:
            script = compatible if "/v1/" in request.path else native
            return script(request) if callable(script) else script

        self.script(answer)

    def _scene(self, vendor: type[SceneVendor], words: Words) -> Script:
        """Return the scene that a vendor of one surface would play."""
        found: list[Script] = []
        one = vendor()
        one.ticks = self.ticks  # its ids differ from those of the scene before
        one.script = found.append
        words(one)
        return found[0]
