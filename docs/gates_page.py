"""Generates the reference page of the gates from their registry."""

from __future__ import annotations

from agent.domain.gates import registered


def gates_page() -> str:
    """Return `docs/reference/gates.md`."""
    lines = [
        "# Gates",
        "",
        "Generated from `agent/domain/gates/` by `make docs`; do not edit.",
        "",
        "A gate is a reason not to continue now. Gates are asked in this order, cheap and local",
        "ones first, at the stages `choose` (before anything is fetched), `before-activation` and",
        "`before-reboot`. `agent upgrade --ignore-gate GATE --reason TEXT` passes a gate at all",
        "its stages; the history records the gate, its reason, who passed it and why.",
        "",
        "| gate | asked | holds when | can be passed |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| `{gate.name}` | {', '.join(gate.stages)} | {gate.holds_when} |"
        f" {'yes' if gate.is_ignorable else 'no'} |"
        for gate in registered().values()
    ]
    return "\n".join(lines) + "\n"
