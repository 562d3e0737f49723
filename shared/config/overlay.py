"""A second file laid over the first: what differs in one environment. Pure.

Mappings are joined key by key. `routes` and `tenants` are joined by the name of their items; other
lists and all single values are replaced. `null` removes a key, `remove: true` an item.
"""

from collections.abc import Mapping

import msgspec

from shared.config.mistakes import Mistakes, joined, suggested
from shared.config.source import Branch, Entry, Items, Leaf, Node

NAMES: Mapping[str, str] = {"routes": "model", "tenants": "id"}
"""The lists whose items have names, with the key that holds it."""

REMOVE = "remove"


def overlaid(below: Branch, above: Branch, mistakes: Mistakes, path: str = "") -> Branch:
    """Return the tree below with what the tree above says instead.

    A key without a value (everything below it may be a comment) says nothing. What is to be removed
    and is not there is a mistake.
    """
    entries = {entry.name: entry for entry in below.entries}
    for entry in above.entries:
        where = joined(path, entry.name)
        known = entries.get(entry.name)
        if _is_word_null(entry.value):
            if entries.pop(entry.name, None) is None:
                hint = suggested(entry.name, entries)
                mistakes.add(where, f"there is nothing to remove{hint}", at=entry.at)
        elif known is None:
            alone = _over(Items(items=(), at=entry.at), entry.value, mistakes, where)
            entries[entry.name] = msgspec.structs.replace(entry, value=alone)
        elif not (isinstance(entry.value, Leaf) and entry.value.is_null):
            value = _over(known.value, entry.value, mistakes, where)
            at = known.at if value.at == known.value.at else entry.at
            entries[entry.name] = Entry(name=entry.name, at=at, value=value)
    return msgspec.structs.replace(below, entries=tuple(entries.values()))


def _over(below: Node, above: Node, mistakes: Mistakes, path: str) -> Node:
    match below, above:
        case Branch(), Branch():
            return overlaid(below, above, mistakes, path)
        case Items(), Items() if path in NAMES:
            return _by_name(below, above, mistakes, path)
        case _, Branch():
            return _alone(above, mistakes, path)
        case _:
            return above


def _alone(above: Branch, mistakes: Mistakes, path: str) -> Branch:
    """Return a mapping that has nothing below it, where nothing can be removed either."""
    return overlaid(Branch(entries=(), at=above.at), above, mistakes, path)


def _by_name(below: Items, above: Items, mistakes: Mistakes, path: str) -> Items:
    """Join the items that have one name; a new name is a new item at the end."""
    field = NAMES[path]
    items: list[Node | None] = list(below.items)
    known = {name: index for index, item in enumerate(items) if (name := _name(item, field))}
    for item in above.items:
        name = _name(item, field)
        index = known.pop(name, None) if name else None  # a second one of a name is told later
        found = None if index is None else items[index]
        if isinstance(item, Branch) and (word := item.get(REMOVE)) is not None:
            if not isinstance(word, Leaf) or word.text.lower() != "true":
                mistakes.add(joined(joined(path, str(name)), REMOVE), "must be true", at=word.at)
            elif index is None:
                hint = suggested(name or "", known)
                message = f"there is nothing to remove{hint}"
                mistakes.add(joined(path, str(name)), message, at=item.at)
            else:
                items[index] = None
        elif index is not None and isinstance(found, Branch) and isinstance(item, Branch):
            items[index] = overlaid(found, item, mistakes, f"{path}[{index}]")
        elif isinstance(item, Branch):
            items.append(_alone(item, mistakes, f"{path}[{len(items)}]"))
        else:
            items.append(item)
    return msgspec.structs.replace(below, items=tuple(one for one in items if one is not None))


def _name(item: Node | None, field: str) -> str | None:
    found = item.get(field) if isinstance(item, Branch) else None
    return found.text if isinstance(found, Leaf) else None


def _is_word_null(node: Node) -> bool:
    return isinstance(node, Leaf) and node.is_null and node.text != ""
