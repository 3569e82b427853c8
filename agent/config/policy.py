"""Converts settings into the domain's policy and checks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from agent.checks.check_type import DEFAULT_TIMEOUT
from agent.checks.registry import check_of
from agent.config.windows import window_of
from agent.domain.check import Check, HttpCheck, IcmpCheck
from agent.domain.job import Job
from agent.domain.policy import ConfirmPolicy, Policy
from agent.domain.reboot import RebootPolicy
from agent.domain.window import Schedule

if TYPE_CHECKING:
    from agent.config.settings import ConfirmSection, HealthSection, RebootSection, Settings
    from agent.config.windows import ScheduleSection


def policy_of(settings: Settings) -> Policy:
    """Return the settings as the domain's policy."""
    hydra = settings.hydra
    return Policy(
        host=settings.host,
        job=Job(hydra.instance, hydra.project, hydra.jobset, settings.job_name),
        select=hydra.select,
        action=settings.action,
        strategy=settings.strategy,
        specialisation=settings.specialisation,
        verify=settings.verify,
        reboot_mode=settings.reboot.mode,
        reboot=_reboot_policy(settings.reboot),
        upgrade_schedule=_schedule(settings.upgrade),
        local_builds=settings.fetch.local_builds,
        store_reserve=settings.disk.store_reserve,
        boot_reserve=settings.disk.boot_reserve,
        checks=checks_of(settings.health),
        health_deadline=settings.health.deadline,
        confirm=confirm_policy_of(settings.confirm),
        foreign_hold=settings.upgrade.foreign_hold,
        clock_patience=settings.clock.patience,
        hydra_patience=hydra.patience,
        activate_deadline=settings.activate.deadline,
        substituters=settings.fetch.substituters,
        allow_insecure=settings.trust.allow_insecure,
    )


def confirm_policy_of(confirm: ConfirmSection) -> ConfirmPolicy:
    """Return the `[confirm]` table as the domain's policy."""
    return ConfirmPolicy(
        checks=tuple(check_of(section) for section in confirm.checks),
        settle=confirm.settle,
        deadline=confirm.deadline,
        patience=confirm.patience,
        on_failure=confirm.on_failure,
        asks_hydra=confirm.hydra,
        asks_gateway=confirm.gateway,
        ignored_units=confirm.ignore_units,
        collects_garbage=confirm.collect_garbage,
    )


def _reboot_policy(reboot: RebootSection) -> RebootPolicy:
    return RebootPolicy(
        schedule=_schedule(reboot),
        inhibitor_limit=reboot.inhibitor_limit,
        user_notice=reboot.user_notice,
        tries_boot=reboot.try_boot,
    )


def _schedule(section: ScheduleSection) -> Schedule:
    return Schedule(
        windows=tuple(window_of(window) for window in section.windows),
        splay=section.splay or timedelta(0),
        margin=section.margin,
    )


def checks_of(health: HealthSection) -> tuple[Check, ...]:
    """Return the canaries' checks, then the configured ones."""
    timeout = min(DEFAULT_TIMEOUT, health.deadline)
    canaries: list[Check] = [
        HttpCheck(name=canary, url=canary, timeout=timeout)
        if "://" in canary
        else IcmpCheck(name=canary, host=canary, timeout=timeout)
        for canary in dict.fromkeys(health.canary_hosts)
    ]
    return (*canaries, *(check_of(section) for section in health.checks))
