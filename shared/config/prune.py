"""Taking disabled providers out of a config, with whatever only they could serve. Pure."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from shared.config.model import Config, RouteConfig


def without_disabled(
    config: Config, disabled: Mapping[str, Sequence[str]]
) -> tuple[Config, tuple[str, ...]]:
    """Return the config without the disabled providers, and a sentence for each thing left out.

    `disabled` maps a provider to the variables it lacks. Fallbacks are written with the name of
    the route itself, whichever alias the file used.
    """
    notes = [
        f'provider "{name}" is off: {" and ".join(unset)} not set'
        for name, unset in disabled.items()
    ]
    routes: list[RouteConfig] = []
    for route in config.routes:
        targets = tuple(one for one in route.targets if one.provider not in disabled)
        if targets:
            routes.append(msgspec.structs.replace(route, targets=targets))
        else:
            notes.append(f'route "{route.model}" is off: none of its providers is on')
    names = {name: route.model for route in routes for name in (route.model, *route.aliases)}
    notes += [
        f'a rule of route "{route.model}" is off: so is the route "{rule.route}" it leads to'
        for route in routes
        for rule in route.rules
        if rule.route not in names
    ]
    providers = {name: one for name, one in config.providers.items() if name not in disabled}
    pruned = msgspec.structs.replace(
        config,
        providers=providers,
        routes=tuple(_renamed(route, names) for route in routes),
        disabled=tuple(disabled),
    )
    return pruned, tuple(notes)


def _renamed(route: RouteConfig, names: Mapping[str, str]) -> RouteConfig:
    return msgspec.structs.replace(
        route,
        fallbacks=_known(route.fallbacks, names),
        on_failure={kind: _known(wanted, names) for kind, wanted in route.on_failure.items()},
    )


def _known(wanted: Iterable[str], names: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names[name] for name in wanted if name in names))
