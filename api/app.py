"""`create_app(edge)`: the application, Litestar behind a front of our own."""

from litestar.types import Receive, Scope, Send

from api.cors import Cors
from api.edge import Edge, with_edge
from api.front import Front
from api.inference import inference_app
from api.rest import methods_of, rest_app
from shared.gateway.parse import ENDPOINTS


def create_app(edge: Edge) -> Front:
    """Return the app over an open Edge; whoever runs it opens and closes the Edge.

    It serves HTTP only: there is no lifespan to tell it of.
    """

    async def rest(scope: Scope, receive: Receive, send: Send) -> None:
        await rest_app()(with_edge(scope, edge), receive, send)

    rest_app()  # now, not at the first request
    origins = edge.runtime.config.server.cors
    return Front(
        {endpoint: inference_app(endpoint, edge) for endpoint in ENDPOINTS},
        rest,
        methods_of(),
        Cors(origins) if origins else None,
        edge.ids,
    )
