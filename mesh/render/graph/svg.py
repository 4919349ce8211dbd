"""The picture as SVG, for light and dark pages.

Nodes stand below each other, the edge to their left. Calls between nodes run in lanes to their right, one lane a pair,
in the caller's colour; the list below the picture names the methods.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from mesh.render.graph.calls import Calls

_COLORS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2", "#65a30d", "#dc2626")
_MARGIN, _GAP = 32, 28
_EDGE_WIDTH, _NODE_X, _NODE_WIDTH = 132, 270, 270
_LANE, _FIRST_LANE = 24, 40
_HEAD, _LINE, _PAD = 30, 20, 12
_ROW = 22
_TITLE = 64
_CHARACTER = 6.6
"""Width of a small character, about."""
_STYLE = """
svg { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; background: #fff; color: #0f172a; }
.box { fill: #f8fafc; stroke: #94a3b8; } .edge { fill: #0f172a; stroke: #0f172a; }
text { fill: currentColor; } .name { font-weight: 600; font-size: 15px; } .on-edge { fill: #fff; }
.small { font-size: 12px; fill: #64748b; } .title { font-size: 20px; font-weight: 600; }
.open { stroke: #64748b; fill: none; stroke-width: 1.5; } .call { fill: none; stroke-width: 1.75; }
.count { font-size: 11px; fill: #475569; }
@media (prefers-color-scheme: dark) {
  svg { background: #0b1220; color: #e2e8f0; } .box { fill: #111c31; stroke: #475569; }
  .edge { fill: #e2e8f0; stroke: #e2e8f0; } .on-edge { fill: #0b1220; } .small, .count { fill: #94a3b8; }
}
"""


@dataclass(frozen=True, slots=True)
class _Box:
    node: str
    top: float
    height: float

    def port(self, number: int, of: int) -> float:
        """Height of one of the places at a side."""
        return self.top + self.height * (number + 1) / (of + 1)


def svg(calls: Calls) -> str:
    """The document."""
    boxes = _boxes(calls)
    bottom = max(box.top + box.height for box in boxes.values())
    lanes_end = _NODE_X + _NODE_WIDTH + _FIRST_LANE + _LANE * len(calls.between)
    rows = list(_rows(calls))
    longest = max((len(text) for _, text in rows), default=0)
    width = max(lanes_end + _MARGIN, _MARGIN * 2 + 40 + longest * _CHARACTER)
    height = bottom + _GAP + 24 + _ROW * len(rows) + _MARGIN
    size = f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}"'
    arrows = [_arrow(color, name) for name, color in _colors(calls).items()]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{escape(_heading(calls))}</title>",
        f"<style>{_STYLE}</style>",
        f"<defs>{''.join(arrows)}{_arrow('#64748b', 'open')}</defs>",
        f'<text class="title" x="{_MARGIN}" y="38">{escape(_heading(calls))}</text>',
        *_edge(calls, boxes),
        *(part for box in boxes.values() for part in _node(calls, box)),
        *_lanes(calls, boxes),
        f'<text class="name" x="{_MARGIN}" y="{bottom + _GAP + 12:g}">Who may call what</text>',
        *_legend(rows, bottom + _GAP + 24),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _heading(calls: Calls) -> str:
    methods = sum(map(len, calls.opened.values()))
    return f"{len(calls.nodes)} nodes, {methods} methods for clients"


def _colors(calls: Calls) -> dict[str, str]:
    return {node: _COLORS[number % len(_COLORS)] for number, node in enumerate(calls.nodes)}


def _boxes(calls: Calls) -> dict[str, _Box]:
    boxes: dict[str, _Box] = {}
    top = float(_TITLE)
    for node in calls.nodes:
        touching = sum(node in pair for pair in calls.between)
        height = max(_HEAD + _LINE * len(calls.services[node]) + _PAD, 14.0 * (touching + 1))
        boxes[node] = _Box(node, top, height)
        top += height + _GAP
    return boxes


def _arrow(color: str, name: str) -> str:
    return (
        f'<marker id="arrow-{escape(name)}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        f'orient="auto-start-reverse"><path d="M0,0 L8,4 L0,8 z" fill="{color}"/></marker>'
    )


def _edge(calls: Calls, boxes: dict[str, _Box]) -> Iterator[str]:
    last = list(boxes.values())[-1]
    middle = (_TITLE + last.top + last.height) / 2
    yield f'<rect class="edge" x="{_MARGIN}" y="{middle - 36:g}" width="{_EDGE_WIDTH}" height="72" rx="8"/>'
    center = _MARGIN + _EDGE_WIDTH / 2
    yield f'<text class="name on-edge" x="{center:g}" y="{middle - 4:g}" text-anchor="middle">{calls.gateway}</text>'
    yield (
        f'<text class="on-edge" font-size="11" x="{center:g}" y="{middle + 16:g}" text-anchor="middle">'
        "gRPC, web, JSON</text>"
    )
    begin = _MARGIN + _EDGE_WIDTH
    for box in boxes.values():
        if not (rpcs := calls.opened[box.node]):
            continue
        y = box.top + box.height / 2
        bend = (begin + _NODE_X) / 2
        yield (
            f'<path class="open" d="M{begin},{middle:g} C{bend:g},{middle:g} {bend:g},{y:g} {_NODE_X - 2},{y:g}" '
            'marker-end="url(#arrow-open)"/>'
        )
        # On the side that the line does not come from.
        count = y - 8 if y < middle else y + 16
        yield f'<text class="count" x="{_NODE_X - 28}" y="{count:g}" text-anchor="middle">{len(rpcs)}</text>'


def _node(calls: Calls, box: _Box) -> Iterator[str]:
    color = _colors(calls)[box.node]
    yield (
        f'<rect class="box" x="{_NODE_X}" y="{box.top:g}" width="{_NODE_WIDTH}" height="{box.height:g}" rx="8"/>'
        f'<rect x="{_NODE_X}" y="{box.top:g}" width="5" height="{box.height:g}" rx="2" fill="{color}"/>'
    )
    yield f'<text class="name" x="{_NODE_X + 18}" y="{box.top + 22:g}">{escape(box.node)}</text>'
    for number, (service, rpcs) in enumerate(calls.services[box.node].items()):
        y = box.top + _HEAD + _LINE * number + 14
        kind = "for nodes" if all(rpc.kind == "internal" for rpc in rpcs) else "for clients"
        yield f'<text x="{_NODE_X + 18}" y="{y:g}">{escape(service)}</text>'
        right = _NODE_X + _NODE_WIDTH - 12
        yield f'<text class="small" x="{right}" y="{y:g}" text-anchor="end">{len(rpcs)} {kind}</text>'


def _lanes(calls: Calls, boxes: dict[str, _Box]) -> Iterator[str]:
    colors = _colors(calls)
    right = _NODE_X + _NODE_WIDTH
    # The shortest way has the innermost lane: lanes cross least.
    pairs = sorted(calls.between, key=lambda pair: (abs(boxes[pair[0]].top - boxes[pair[1]].top), pair))
    ends: dict[str, list[tuple[float, tuple[str, str]]]] = {node: [] for node in calls.nodes}
    for pair in pairs:
        for node, other in (pair, pair[::-1]):
            ends[node].append((boxes[other].top, pair))
    places = {
        (node, pair): boxes[node].port(number, len(found))
        for node, found in ends.items()
        for number, (_, pair) in enumerate(sorted(found))
    }
    for number, pair in enumerate(pairs):
        caller, node = pair
        x = right + _FIRST_LANE + _LANE * number
        begin, end = places[caller, pair], places[node, pair]
        turn = 8 if end > begin else -8
        out = f"M{right},{begin:g} H{x - 8} Q{x},{begin:g} {x},{begin + turn:g}"
        back = f"V{end - turn:g} Q{x},{end:g} {x - 8},{end:g} H{right + 2}"
        told = escape(f"{caller} calls {node}: " + ", ".join(calls.between[pair]))
        yield (
            f'<path class="call" stroke="{colors[caller]}" d="{out} {back}" marker-end="url(#arrow-{escape(caller)})">'
            f"<title>{told}</title></path>"
        )


def _rows(calls: Calls) -> Iterator[tuple[str, str]]:
    colors = _colors(calls)
    for (caller, node), names in sorted(calls.between.items(), key=lambda call: calls.nodes.index(call[0][0])):
        yield colors[caller], f"{caller} → {node}: " + ", ".join(names)


def _legend(rows: list[tuple[str, str]], top: float) -> Iterator[str]:
    for number, (color, text) in enumerate(rows):
        y = top + _ROW * number + 16
        yield f'<rect x="{_MARGIN}" y="{y - 9:g}" width="18" height="4" rx="2" fill="{color}"/>'
        yield f'<text x="{_MARGIN + 28}" y="{y:g}">{escape(text)}</text>'
