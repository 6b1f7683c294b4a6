"""An architecture as a standalone SVG: rounded boxes coloured by kind, cells drawn inside their box, inputs at the top."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from xml.sax.saxutils import escape

from .architecture import Architecture, Node, port_of, source_of
from .facts import BLOCKS
from .layout import Layout, layered
from .outline import Run, chain_of, folded, nested, words

# fill, line
COLOURS = {
    "stem": ("#e3effc", "#3f7fbf"),
    "mixer": ("#e9e5fb", "#6a57c4"),
    "channel": ("#e2f4e6", "#3d9458"),
    "norm": ("#fbf3d3", "#b08d1e"),
    "activation": ("#fde9d9", "#cc7a33"),
    "op": ("#ddf3f3", "#2f8f92"),
    "head": ("#fce3e6", "#c4485a"),
    "structure": ("#f1f3f5", "#7a8694"),
    "unknown": ("#ffffff", "#7a8694"),
}
_INK, _FAINT, _EDGE = "#1f2933", "#66717e", "#8491a0"
_FONT = "'DejaVu Sans', Verdana, 'Segoe UI', Helvetica, Arial, sans-serif"
_PAD, _MARGIN, _WRAP = 11.0, 20.0, 190.0


@dataclass(slots=True)
class Box:
    """A piece of the drawing with its own origin: ``svg`` fills ``width`` by ``height``."""

    svg: str
    width: float
    height: float
    round: bool = False


def document(architecture: Architecture) -> str:
    """The drawing of ``architecture`` with a legend of the kinds that occur in it."""
    graph = _sketch(architecture, top=True)
    legend = _legend(_kinds(architecture))
    training = _note("training: " + ", ".join(words(architecture.training))) if architecture.training else Box("", 0, 0)
    width = max(graph.width, legend.width, training.width) + 2 * _MARGIN
    height = graph.height + 2 * _MARGIN + sum(part.height + 14 for part in (training, legend) if part.height)
    y = _MARGIN + graph.height + 14
    parts = [_at((width - graph.width) / 2, _MARGIN, graph.svg)]
    for part in (training, legend):
        if part.height:
            parts.append(_at((width - part.width) / 2, y, part.svg))
            y += part.height + 14
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'font-family="{_FONT}" font-size="11" fill="{_INK}">\n<title>{escape(_summary(architecture))}</title>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _summary(architecture: Architecture) -> str:
    return f"Architecture of {len(architecture.nodes)} nodes"


# --- graphs


def _sketch(architecture: Architecture, top: bool) -> Box:
    """A graph as one piece: laid out, edges under boxes."""
    runs = folded(architecture)
    boxes = [_box(run) for run in runs]
    number = {node.name: index for index, run in enumerate(runs) for node in run.nodes}
    ends: list[tuple[int, int, str]] = []
    for index, run in enumerate(runs):
        ends += [(number[source_of(reference)], index, port_of(reference)) for reference in run.first.inputs]
    for label, reference in [("output", architecture.output), *architecture.ports.items()]:
        if top or label != "output" or architecture.ports:
            ends.append((number[source_of(reference)], len(boxes), port_of(reference)))
            boxes.append(_pill(label))
    layout = layered([(box.width, box.height) for box in boxes], [(source, target) for source, target, _ in ends])
    edges = _edges(boxes, layout, ends)
    placed = [_at(x - box.width / 2, y - box.height / 2, box.svg) for box, (x, y) in zip(boxes, layout.centres, strict=True)]
    return Box("\n".join([*edges, *placed]), *layout.size)


def _edges(boxes: list[Box], layout: Layout, ends: list[tuple[int, int, str]]) -> list[str]:
    """The edges as curves; several into one box arrive side by side, ordered by where they come from."""
    arriving: dict[int, list[tuple[float, int]]] = {}
    for index, (source, target, _) in enumerate(ends):
        lanes = layout.lanes[index]
        arriving.setdefault(target, []).append((lanes[-1][0] if lanes else layout.centres[source][0], index))
    drawn = []
    for index, (source, target, port) in enumerate(ends):
        order = [number for _, number in sorted(arriving[target])]
        shift, lift = _landing(boxes[target], order.index(index), len(order))
        x, y = layout.centres[source]
        start = (x, y + boxes[source].height / 2)
        end = (layout.centres[target][0] + shift, layout.centres[target][1] - boxes[target].height / 2 + lift)
        drawn.append(_curve(start, layout.lanes[index], end, port))
    return drawn


def _landing(box: Box, place: int, count: int) -> tuple[float, float]:
    """How far right of the middle and below the top the arrow number ``place`` of ``count`` ends."""
    if count == 1:
        return 0.0, 0.0
    room = box.width - (8 if box.round else 28)
    shift = (place / (count - 1) - 0.5) * min(room, 16.0 * (count - 1))
    radius = box.height / 2
    return shift, radius - (radius**2 - shift**2) ** 0.5 if box.round else 0.0


def _curve(start: tuple[float, float], lanes: list[tuple[float, float, float]], end: tuple[float, float], port: str) -> str:
    tip = 6.0
    path = [f"M{start[0]:.1f},{start[1]:.1f}"]
    x, y = start
    for lane, upper, lower in lanes:
        path += [_bend(x, y, lane, upper), f"L{lane:.1f},{lower:.1f}"]
        x, y = lane, lower
    path.append(_bend(x, y, end[0], end[1] - tip))
    arrow = f"M{end[0]:.1f},{end[1]:.1f}l-3.5,-{tip + 1}h7z"
    label = ""
    if port:
        label = _text(start[0] + 5, start[1] + 11, port, size=9, colour=_FAINT, style="italic")
    return f'<path d="{" ".join(path)}" fill="none" stroke="{_EDGE}" stroke-width="1.3"/><path d="{arrow}" fill="{_EDGE}"/>{label}'


def _bend(x: float, y: float, to_x: float, to_y: float) -> str:
    middle = (y + to_y) / 2
    return f"C{x:.1f},{middle:.1f} {to_x:.1f},{middle:.1f} {to_x:.1f},{to_y:.1f}"


# --- boxes


def _box(run: Run) -> Box:
    node = run.first
    if node.block == "sum" and run.count == 1 and not node.params:
        return _plus(_tooltip(run))
    if node.block == "input":
        key = node.params.get("port", node.params.get("index"))
        return _pill("input" if key is None else f"input {key}", _tooltip(run))
    rows = [_line(run.name, 9, _FAINT)] if run.name != node.block else []
    rows.append(_line(node.block, 12, _INK, "bold", f"×{run.count}" if run.count > 1 else ""))
    rows += [_line(line, 9.5, _FAINT) for line in _wrapped(words(node.params))]
    if node.weights is not None:
        rows.append(_line(f"weights of {node.weights}", 9.5, _FAINT, style="italic"))
    rows += [_cell(label, cell) for label, cell in nested(node.params)]
    return _framed(rows, _kind(node), _tooltip(run), run.count)


def _framed(rows: list[Box], kind: str, tooltip: str, count: int) -> Box:
    """Rows under one another, centred in a rounded box; two more edges behind it where it stands for several."""
    width = max(64.0, max(row.width for row in rows) + 2 * _PAD)
    height = sum(row.height for row in rows) + 12
    fill, line = COLOURS[kind]
    frame = f'width="{width:.1f}" height="{height:.1f}" rx="7" fill="{fill}" stroke="{line}" stroke-width="1.2"'
    shadow = 4.0 if count > 1 else 0.0
    parts = [f'<rect x="{at:.1f}" y="{at:.1f}" {frame}/>' for at in ([8.0, 4.0, 0.0] if shadow else [0.0])]
    y = 6.0
    for row in rows:
        parts.append(_at((width - row.width) / 2, y, row.svg))
        y += row.height
    return Box(f"<title>{escape(tooltip)}</title>" + "".join(parts), width + 2 * shadow, height + 2 * shadow)


def _cell(label: str, cell: Architecture) -> Box:
    """A cell inside a box: a row of chips where it is a chain, otherwise a graph of its own."""
    chain = chain_of(cell)
    if chain is not None and not cell.ports and not any(True for node in chain for _ in nested(node.params)):
        inner = _chips(chain)
    else:
        graph = _sketch(cell, top=False)
        frame = f'<rect width="{graph.width + 16:.1f}" height="{graph.height + 16:.1f}" rx="6" fill="#ffffff" fill-opacity="0.75"/>'
        inner = Box(frame + _at(8, 8, graph.svg), graph.width + 16, graph.height + 16)
    name = _line(label, 9, _FAINT)
    width = max(inner.width, name.width)
    svg = _at((width - name.width) / 2, 5, name.svg) + _at((width - inner.width) / 2, 5 + name.height, inner.svg)
    return Box(svg, width, inner.height + name.height + 8)


def _chips(chain: list[Node]) -> Box:
    parts, x, height = [], 0.0, 0.0
    boxes = [_chip(node) for node in chain] or [_line("(its input)", 9.5, _FAINT)]
    height = max(box.height for box in boxes)
    for box in boxes:
        if x:
            parts.append(f'<path d="M{x + 2:.1f},{height / 2:.1f}h8" stroke="{_EDGE}" stroke-width="1.2"/>')
            parts.append(f'<path d="M{x + 14:.1f},{height / 2:.1f}l-6,-3v6z" fill="{_EDGE}"/>')
            x += 16
        parts.append(_at(x, (height - box.height) / 2, box.svg))
        x += box.width
    return Box("".join(parts), x, height)


def _chip(node: Node) -> Box:
    rows = [_line(node.block, 10.5, _INK), *(_line(line, 8.5, _FAINT) for line in _wrapped(words(node.params), 130))]
    width, height = max(row.width for row in rows) + 14, sum(row.height for row in rows) + 6
    fill, line = COLOURS[_kind(node)]
    parts = [f'<rect width="{width:.1f}" height="{height:.1f}" rx="5" fill="{fill}" stroke="{line}"/>']
    y = 3.0
    for row in rows:
        parts.append(_at((width - row.width) / 2, y, row.svg))
        y += row.height
    return Box("".join(parts), width, height)


def _plus(tooltip: str) -> Box:
    fill, line = COLOURS["structure"]
    circle = f'<circle cx="12" cy="12" r="12" fill="{fill}" stroke="{line}" stroke-width="1.2"/>'
    cross = f'<path d="M7,12h10M12,7v10" stroke="{_INK}" stroke-width="1.5"/>'
    return Box(f"<title>{escape(tooltip)}</title>{circle}{cross}", 24, 24, round=True)


def _pill(text: str, tooltip: str = "") -> Box:
    line = _line(text, 10, _INK)
    width, height = line.width + 22, 22.0
    frame = (
        f'<rect width="{width:.1f}" height="{height:.1f}" rx="11" fill="#ffffff" stroke="{COLOURS["structure"][1]}" stroke-width="1.2"/>'
    )
    title = f"<title>{escape(tooltip)}</title>" if tooltip else ""
    return Box(title + frame + _at((width - line.width) / 2, (height - line.height) / 2, line.svg), width, height)


def _tooltip(run: Run) -> str:
    inside = ", ".join(words(run.first.params))
    return f"{run.name}: {run.first.block}({inside})" + (f" ×{run.count}" if run.count > 1 else "")


# --- legend and kinds


def _kind(node: Node) -> str:
    return BLOCKS[node.block].facts.kind if node.block in BLOCKS else "unknown"


def _kinds(architecture: Architecture) -> set[str]:
    found = {_kind(node) for node in architecture.nodes if node.block not in ("input", "sum")}
    for node in architecture.nodes:
        for _, cell in nested(node.params):
            found |= _kinds(cell)
    return found


def _legend(kinds: Iterable[str]) -> Box:
    parts, x = [], 0.0
    for kind in [kind for kind in COLOURS if kind in set(kinds)]:
        fill, line = COLOURS[kind]
        label = _line(kind, 9, _FAINT)
        parts.append(f'<rect x="{x:.1f}" y="1" width="11" height="11" rx="3" fill="{fill}" stroke="{line}"/>')
        parts.append(_at(x + 16, 0, label.svg))
        x += 16 + label.width + 14
    return Box("".join(parts), max(0.0, x - 14), 13.0 if parts else 0.0)


def _note(text: str) -> Box:
    return _line(text, 10, _FAINT)


# --- text


def _line(text: str, size: float, colour: str, weight: str = "normal", tail: str = "", style: str = "normal") -> Box:
    """One line of text; ``tail`` follows in a lighter colour."""
    gap = 5.0 if tail else 0.0
    own = _width(text, size, weight == "bold")
    svg = _text(0, size, text, size=size, colour=colour, weight=weight, style=style)
    if tail:
        svg += _text(own + gap, size, tail, size=size, colour=_FAINT, weight=weight)
    return Box(svg, own + gap + _width(tail, size, weight == "bold"), size * 1.35)


def _text(x: float, y: float, text: str, *, size: float, colour: str, weight: str = "normal", style: str = "normal") -> str:
    extras = (f' font-weight="{weight}"' if weight != "normal" else "") + (f' font-style="{style}"' if style != "normal" else "")
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}"{extras}>{escape(text)}</text>'


def _width(text: str, size: float, bold: bool = False) -> float:
    """The width of text as a browser would set it, to within some percent: DejaVu Sans, the widest of the fonts named."""
    return sum(_advance(letter) for letter in text) * size * (1.1 if bold else 1.0)


def _advance(letter: str) -> float:
    if letter in "iljI|'":
        return 0.29
    if letter in "tfr()[]{}.,:;- /":
        return 0.39
    if letter in "mwMW=+×→<>&%@~":
        return 0.85
    return 0.7 if letter.isupper() else 0.62


def _wrapped(parts: list[str], width: float = _WRAP) -> list[str]:
    """Parameters over as many lines as needed, longer ones cut."""
    lines: list[str] = []
    for part in parts:
        part = part if len(part) <= 40 else part[:39] + "…"
        if lines and _width(f"{lines[-1]}, {part}", 9.5) <= width:
            lines[-1] += f", {part}"
        else:
            lines.append(part)
    return lines


def _at(x: float, y: float, svg: str) -> str:
    return f'<g transform="translate({x:.1f},{y:.1f})">{svg}</g>'
