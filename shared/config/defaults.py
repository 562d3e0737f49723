"""`defaults`: route keys given once, put into every route that does not have them. Pure.

Mappings inside (timeouts, retry, price ...) are joined key by key; lists are replaced as a whole.
"""

import msgspec

from shared.config.convert import Converter
from shared.config.mistakes import Mistakes
from shared.config.model import RouteConfig
from shared.config.source import Branch, Entry, Items, Leaf, Node

OWN = frozenset({"model", "aliases", "targets"})
"""What cannot be shared by routes."""


def with_defaults(root: Branch, converter: Converter, mistakes: Mistakes) -> Branch:
    """Return the file's tree with `defaults` in every route.

    Wrong defaults are noted once, and then not applied.
    """
    defaults = root.get("defaults")
    routes = root.get("routes")
    if defaults is None:
        return root
    root = root.replaced("defaults", Branch(entries=(), at=defaults.at))
    converter.section(defaults, RouteConfig, "defaults", omit=OWN)
    if mistakes.below("defaults") or not isinstance(defaults, Branch):
        return root
    if not isinstance(routes, Items):
        return root
    filled = tuple(
        _joined(_without_itself(defaults, route), route) if isinstance(route, Branch) else route
        for route in routes.items
    )
    return root.replaced("routes", msgspec.structs.replace(routes, items=filled))


def _joined(below: Branch, above: Branch) -> Branch:
    entries = {entry.name: entry for entry in below.entries}
    for entry in above.entries:
        known = entries.get(entry.name)
        if known and isinstance(known.value, Branch) and isinstance(entry.value, Branch):
            value = _joined(known.value, entry.value)
            entry = msgspec.structs.replace(entry, value=value)  # noqa: PLW2901
        entries[entry.name] = entry
    return msgspec.structs.replace(above, entries=tuple(entries.values()))


def _without_itself(defaults: Branch, route: Branch) -> Branch:
    """Return the defaults without what leads to the route itself: fallbacks and rules."""
    model = route.get("model")
    own = model.text if isinstance(model, Leaf) else None
    entries = (
        msgspec.structs.replace(entry, value=_without(entry.value, own))
        if entry.name in {"fallbacks", "on_failure", "rules"}
        else entry
        for entry in defaults.entries
    )
    return msgspec.structs.replace(defaults, entries=tuple(entries))


def _without(node: Node, name: str | None) -> Node:
    match node:
        case Items():
            kept = (one for one in node.items if not _leads_to(one, name))
            return msgspec.structs.replace(node, items=tuple(kept))
        case Branch():
            inner = (
                Entry(name=entry.name, at=entry.at, value=_without(entry.value, name))
                for entry in node.entries
            )
            return msgspec.structs.replace(node, entries=tuple(inner))
        case _:
            return node


def _leads_to(item: Node, name: str | None) -> bool:
    """Return whether a fallback, which is a name, or a rule leads to the route."""
    to = item.get("route") if isinstance(item, Branch) else item
    return isinstance(to, Leaf) and to.text == name
