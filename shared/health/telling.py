"""Tells people when a target is left alone, goes last, or is asked again."""

from shared.health.book import TargetKey
from shared.health.breaker import BreakerState, Phase
from shared.health.facts import Fact, FactKey, FactKind
from shared.telemetry.log import get_logger
from shared.telemetry.metrics import BREAKER_CHANGES, BREAKERS_NOT_CLOSED, TARGETS_SET_ASIDE

log = get_logger("health")


def tell(key: TargetKey, before: BreakerState, after: BreakerState) -> None:
    """Log and count a breaker's change."""
    provider, model, credential = key
    BREAKER_CHANGES.labels(provider, after.phase.value).inc()
    if Phase.CLOSED in {before.phase, after.phase}:
        BREAKERS_NOT_CLOSED.labels(provider).inc(-1 if after.phase is Phase.CLOSED else 1)
    write = log.warning if after.phase is Phase.OPEN else log.info
    write(
        "breaker.changed",
        target=f"{provider}/{model}",
        credential=credential,
        phase=after.phase.value,
        before=before.phase.value,
        reason=after.reason,
    )


def tell_fact(key: FactKey, fact: Fact, length_s: float) -> None:
    """Log and count that a target or a credential goes last; one that was refused wants mending."""
    provider, model, credential = key
    TARGETS_SET_ASIDE.labels(provider, fact.kind.value).inc()
    for_s = round(length_s, 1)
    match fact.kind:
        case FactKind.LIMITED:
            target = f"{provider}/{model}"
            log.info("target.limited", target=target, credential=credential, for_s=for_s)
        case FactKind.PARKED:
            log.error(
                "credential.parked",
                provider=provider,
                credential=credential,
                model=model or None,
                for_s=for_s,
            )
