"""The picture as Mermaid: for pages that draw it, as those of GitHub do."""

from mesh.render.graph.calls import Calls

_LINE = "<br/>"


def mermaid(calls: Calls) -> str:
    """A flowchart."""
    lines = ["flowchart LR", "  clients([clients]) --> " + f"{calls.gateway}[[{calls.gateway}]]"]
    for node in calls.nodes:
        services = _LINE.join(calls.services[node])
        lines.append(f'  {node}["<b>{node}</b><br/>{services}"]')
    lines += [f'  {calls.gateway} -->|"{_methods(len(rpcs))}"| {node}' for node, rpcs in calls.opened.items() if rpcs]
    lines += [f'  {caller} -.->|"{_LINE.join(names)}"| {node}' for (caller, node), names in calls.between.items()]
    return "\n".join(lines) + "\n"


def _methods(count: int) -> str:
    return f"{count} method{'' if count == 1 else 's'}"
