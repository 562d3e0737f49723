"""Where Google's Vertex AI answers, whoever made the model."""

from urllib.parse import quote


def vertex_url(location: str) -> str:
    """Return the host of a region, of a multi-region (`us`, `eu`), or of all (`global`)."""
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in {"us", "eu"}:
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def vertex_folder(project: str, location: str) -> str:
    """Return the path of a project's models in a place, without slashes around it."""
    return f"projects/{quote(project, safe=':')}/locations/{quote(location)}"
