"""The JSON Schema of the config file, for editors. Pure.

Draft 7, the newest that editors know well. A number or a flag may be written with `${NAME}`, so
each of them may be text that holds one. What no single place shows (a provider that does not exist,
a key given to two tenants) only `sluiceway check-config` finds.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any, cast

import msgspec
from msgspec import inspect

from shared.config.convert import NOT_KEYS
from shared.config.defaults import OWN
from shared.config.kinds import Kinds
from shared.config.meanings import meanings
from shared.config.model import Config, ProviderConfig, RouteConfig, TenantConfig
from shared.config.overlay import NAMES, REMOVE
from shared.config.section import Section

Schema = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
VARIABLE = r"\$\{"
"""A text that takes something from the environment: what it comes to, nobody knows here."""

_TEXT = ["string", "number", "boolean"]  # `model: 4` is a name
_FORMATS: Mapping[str, Schema] = {
    "usd": {
        "type": ["number", "string"],
        "minimum": 0,
        "maximum": 1_000_000_000,
        "pattern": r"^\+?[0-9]*\.?[0-9]*([eE][+-]?[0-9]+)?$",
    },
    "factor": {
        "type": ["number", "string"],
        "minimum": 0,
        "maximum": 1000,
        "pattern": r"^\+?[0-9]*\.?[0-9]*([eE][+-]?[0-9]+)?$",
    },
    "url": {"type": "string", "pattern": r"^[hH][tT][tT][pP][sS]?://[^\s]+$"},
    "key": {"type": _TEXT, "pattern": "^[!-~]+$"},
    "network": {"type": "string", "pattern": r"^[0-9A-Fa-f:.]+(/[0-9.]+)?$"},
    "timezone": {"type": "string", "minLength": 1},
    "date": {"type": "string", "pattern": "^[0-9]{4}-?[0-9]{2}-?[0-9]{2}$"},
    "webhook_secret": {"type": "string", "pattern": "^whsec_[A-Za-z0-9+/]+=*$"},
    "smtp": {"type": "string", "pattern": "^smtps?://[^/?]+/?[?]"},
    "sns_topic": {"type": "string", "pattern": "^arn:aws[a-z-]*:sns:[^:]+:[0-9]{12}:[^:]+$"},
}
_CLOSED = {"additionalProperties": False}
_NAMED = ((RouteConfig, "model"), (TenantConfig, "id"))
"""The items of an overlay that must say which of the base they are."""
_HEADER_NAME = "^[!#$%&'*+.^_`|~0-9A-Za-z-]+$"


def config_schema(kinds: Kinds) -> Schema:
    """Return the schema of a whole config file."""
    return _Drawn(kinds).root("The config file of Sluiceway.", part=False)


def overlay_schema(kinds: Kinds) -> Schema:
    """Return the schema of an overlay: nothing is required but names, and null removes."""
    return _Drawn(kinds).root("An overlay of Sluiceway's config file.", part=True)


def schema_text(kinds: Kinds, *, overlay: bool = False) -> str:
    """Return one of the two as a file's text."""
    schema = overlay_schema(kinds) if overlay else config_schema(kinds)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


class _Drawn:
    """Draws a schema; each section becomes a definition, `…Part` where a part of it is enough."""

    def __init__(self, kinds: Kinds) -> None:
        self._kinds = kinds
        self._definitions: Schema = {"variable": {"type": "string", "pattern": VARIABLE}}

    def root(self, title: str, *, part: bool) -> Schema:
        whole = self._section(Config, part=part)
        return {
            "$schema": DRAFT,
            "title": title,
            **whole,
            "type": "object",
            "definitions": self._definitions,
        }

    def _section(
        self, section: type[Section], *, part: bool, omit: frozenset[str] = frozenset()
    ) -> Schema:
        described = cast("inspect.StructType", inspect.type_info(section))
        without = omit | NOT_KEYS.get(section.__name__, frozenset())
        fields = [field for field in described.fields if field.name not in without]
        properties = {field.name: self._field(section, field, part=part) for field in fields}
        required = [field.name for field in fields if field.required]
        if part:
            required = [name for one, name in _NAMED if one is section]
            if required:
                properties[REMOVE] = {"description": "Takes the item out.", "const": True}
        schema: Schema = {
            "description": " ".join((section.__doc__ or "").split()),
            "type": "object" if required and not part else ["object", "null"],
            "additionalProperties": False,
            "properties": properties,
        }
        if required:
            schema["required"] = required
        if section is ProviderConfig:
            schema |= self._provider_rules(part=part)
        return schema

    def _provider_rules(self, *, part: bool) -> Schema:
        """Return what the fields of a provider ask of each other."""
        if part:
            return {}
        homeless = sorted(kind for kind, needs in self._kinds.items() if needs.base_url)
        return {
            "not": {
                "properties": {"api_key": {"not": {"type": "null"}}, "api_keys": {"minItems": 1}},
                "required": ["api_key", "api_keys"],
            },
            "if": {"properties": {"kind": {"enum": homeless}}, "required": ["kind"]},
            "then": {"required": ["base_url"]},
        }

    def _field(self, section: type[Section], field: inspect.Field, *, part: bool) -> Schema:
        drawn: Schema
        if section is Config and field.name == "defaults":
            drawn = self._named("Defaults", RouteConfig, part=part, omit=OWN)
        elif section is ProviderConfig and field.name == "kind":
            drawn = _words(sorted(self._kinds), nullable=part)
        else:
            by_name = section is Config and field.name in NAMES
            drawn = self._value(field.type, part=part, nullable=part, by_name=by_name)
        told: Schema = {"description": meanings(section)[field.name]}
        if field.default is not msgspec.NODEFAULT and not isinstance(field.default, Section):
            if field.default not in (None, (), {}):
                default = field.default
                told["default"] = list(default) if isinstance(default, tuple) else default
        elif callable(field.default_factory) and (made := field.default_factory()):
            told["default"] = made
        # What stands beside a $ref does not count in draft 7.
        return {**told, "allOf": [drawn]} if "$ref" in drawn else {**told, **drawn}

    def _named(
        self,
        name: str,
        section: type[Section],
        *,
        part: bool,
        omit: frozenset[str] = frozenset(),
    ) -> Schema:
        name += "Part" if part else ""
        if name not in self._definitions:
            self._definitions[name] = {}  # keeps its place while its own fields are drawn
            drawn = self._section(section, part=part, omit=omit)
            if omit:
                drawn.pop("required", None)
                drawn["properties"].pop(REMOVE, None)
                drawn["type"] = ["object", "null"]
            self._definitions[name] = drawn
        return {"$ref": f"#/definitions/{name}"}

    def _value(
        self, kind: inspect.Type, *, part: bool, nullable: bool = False, by_name: bool = False
    ) -> Schema:
        extra: Mapping[str, object] = {}
        if isinstance(kind, inspect.UnionType):  # the model has only `X | None`
            nullable = True
            kind = next(one for one in kind.types if not isinstance(one, inspect.NoneType))
        if isinstance(kind, inspect.Metadata):
            extra, kind = kind.extra or {}, kind.type
        match kind:
            case inspect.StructType(cls=cls):
                named = self._named(cls.__name__, cast("type[Section]", cls), part=part)
                whole = "null" not in self._definitions[named["$ref"].rpartition("/")[2]]["type"]
                return {"anyOf": [named, {"type": "null"}]} if nullable and whole else named
            case inspect.VarTupleType(item_type=item, min_length=least):
                some: Schema = {
                    "type": ["array", "null"],
                    "items": self._value(item, part=by_name and part),
                }
                if least and not part:
                    some |= {"type": "array", "minItems": least}
                return some
            case inspect.DictType():
                return self._mapping(kind, part=part, headers=extra.get("format") == "headers")
            case inspect.CustomType():
                return {}
            case inspect.LiteralType(values=values):
                return _words(values, nullable=nullable)
            case _:
                return _scalar(kind, str(extra.get("format", "")), nullable=nullable)

    def _mapping(self, kind: inspect.DictType, *, part: bool, headers: bool) -> Schema:
        schema: Schema = {"type": ["object", "null"]}
        inner = self._value(kind.value_type, part=part, nullable=part)
        if isinstance(kind.key_type, inspect.LiteralType):
            names = [str(name) for name in kind.key_type.values]
            return {**schema, "properties": dict.fromkeys(names, inner), **_CLOSED}
        if inner:
            schema["additionalProperties"] = inner
        key = kind.key_type.type if isinstance(kind.key_type, inspect.Metadata) else kind.key_type
        pattern = key.pattern if isinstance(key, inspect.StrType) else None
        if headers:
            pattern = _HEADER_NAME
            schema["additionalProperties"] = {**inner, "pattern": "^[ -~]*$"}
        if pattern:
            schema["propertyNames"] = {"pattern": pattern}
        return schema


def _scalar(kind: inspect.Type, form: str, *, nullable: bool) -> Schema:
    schema: Schema
    match kind:
        case inspect.StrType(pattern=pattern):
            schema = dict(_FORMATS.get(form) or {"type": _TEXT, "minLength": 1})
            if pattern:
                schema["pattern"] = pattern
            if "pattern" in schema:
                schema["pattern"] = f"{schema['pattern']}|{VARIABLE}"
        case inspect.BoolType():
            schema = {"type": ["boolean", "string"], "pattern": VARIABLE}
        case inspect.IntType() | inspect.FloatType():
            name = "integer" if isinstance(kind, inspect.IntType) else "number"
            bounds = {"minimum": kind.ge, "exclusiveMinimum": kind.gt, "maximum": kind.le}
            given = {word: bound for word, bound in bounds.items() if bound is not None}
            # Bounds are for numbers and patterns for text: neither asks anything of the other.
            schema = {"type": [name, "string"], **given, "pattern": VARIABLE}
        case _:
            raise TypeError(f"no schema for {kind}")
    if nullable:
        types = schema["type"]
        schema["type"] = [*([types] if isinstance(types, str) else types), "null"]
    return schema


def _words(values: Iterable[object], *, nullable: bool) -> Schema:
    """Return the schema of a closed set; YAML takes `off` for false and `null` for nothing."""
    words = list(values)
    if "off" in words:
        words.append(False)
    if nullable or "null" in words:
        words.append(None)
    return {"anyOf": [{"enum": words}, {"$ref": "#/definitions/variable"}]}
