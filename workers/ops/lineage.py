"""Lineage: from anything up to what began it, and down to all that came of it.

    event ─▶ job ─▶ jobs that it enqueued ─▶ entries of the ledger, generations ─▶ videos ─▶ posts

Bounded in depth and in rows, and it says where more would be. What is shown once is not shown again, so there is no
circle. A cause that is no row (somebody in the shell, a key of the API, another program) is a root by itself.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from db.ops.lineage import Made
from db.transaction import SYSTEM, Tx
from domain.errors import ViralError
from domain.ops.causes import ANOTHER_PROGRAM, Cause, CauseKind, parse
from workers.app import App

WHO = (CauseKind.PERSON, CauseKind.OPERATOR, CauseKind.API)
"""Kinds of causes that are no rows."""

KINDS = ("event", "job", "schedule", "ledger", "generation", "video", "post")
"""The kinds that can be asked about. The id of a run of a schedule is `<name>@<ISO time>`, of an entry its number."""

DEEPEST_UP, DEEPEST_DOWN = 20, 8
MOST_ROWS = 500
"""Rows below the one that is asked about, in all."""


class UnknownNode(ViralError):
    """There is nothing of this kind and id."""


@dataclass(frozen=True, slots=True)
class Node:
    """One thing. `status` and `at` are None for what is no row. `more`: not all that came of it is in `children`."""

    kind: str
    id: str
    title: str
    status: str | None = None
    at: datetime | None = None
    tenant_id: UUID | None = None
    children: tuple["Node", ...] = ()
    more: bool = False


@dataclass(frozen=True, slots=True)
class Lineage:
    """What was asked about, with all that came of it; `above` is the way to it from its root, the root first, without
    other branches. `beside` is what it was also made of or by. `more`: the way, or what came of it, is longer."""

    node: Node
    above: tuple[Node, ...]
    beside: tuple[Node, ...]
    more: bool


def lineage(tx: Tx, kind: str, id: str | UUID) -> Lineage:
    """Return the lineage of a thing of `KINDS`; the transaction sees every tenant's rows.

    Raises:
        UnknownNode: there is none, or it is gone.
    """
    found = _find(tx, kind, str(id))
    if found is None:
        raise UnknownNode(f"there is no {kind} {str(id)[:100]}")
    above, further = _above(tx, found)
    beside = [_node(each) for each in (_of_reference(tx, *each) for each in _beside(found, above)) if each is not None]
    node, more = _below(tx, found, {(each.kind, each.id) for each in (*above, *beside)})
    return Lineage(node, tuple(above), tuple(beside), more or further)


def of_job(app: App, job_id: UUID) -> Lineage:
    """Return the lineage of a job, in a transaction of its own.

    Raises:
        UnknownNode: there is no such job.
    """
    with app.db.transaction(SYSTEM) as tx:
        return lineage(tx, "job", job_id)


def lines(found: Lineage) -> list[str]:
    """Write a lineage as text, a thing a line: the way from the root, then what was asked about (`>`), then what came
    of it, each level further in."""
    written = [f"{'  ' * depth}  {_line(each)}" for depth, each in enumerate(found.above)]

    def write(node: Node, depth: int, mark: str) -> None:
        written.append(f"{'  ' * depth}{mark} {_line(node)}")
        for child in node.children:
            write(child, depth + 1, " ")
        if node.more:
            written.append(f"{'  ' * (depth + 1)}  … and more")

    write(found.node, len(found.above), ">")
    return written


def _line(node: Node) -> str:
    # The words of a root that is no row have its id in them.
    words = [node.kind, node.id, node.title, node.status] if node.at is not None else [node.title, node.status]
    return "  ".join(word for word in words if word)


# --- up ------------------------------------------------------------------------------------------------------------

Reference = tuple[str, str]


def _above(tx: Tx, found: Made) -> tuple[list[Node], bool]:
    """Return the way from the root, and whether it begins further up."""
    way: list[Node] = []
    seen, at = {(found.kind, found.id)}, found
    while (reference := _parent(at)) is not None and reference not in seen:
        if len(way) == DEEPEST_UP:
            return way, True
        seen.add(reference)
        parent = _of_reference(tx, *reference)
        if parent is None:
            return [_gone(*reference), *way], False
        way.insert(0, _node(parent))
        at = parent
    if at.kind in ("job", "ledger") and reference is None:
        way.insert(0, Node("unknown", "", ANOTHER_PROGRAM))
    return way, False


def _parent(made: Made) -> Reference | None:
    match made.kind:
        case "job" | "ledger":
            cause = parse(made.cause)
            return None if cause is None else (str(cause.kind), cause.id)
        case "generation":
            return None if made.above is None else ("job", made.above)
        case "video":
            return ("job", made.made_by) if made.made_by else ("generation", made.above) if made.above else None
        case "post":
            return None if made.above is None else ("video", made.above)
    return None


def _beside(found: Made, above: Sequence[Node]) -> list[Reference]:
    """Return what else a thing was made of or by."""
    shown = {(each.kind, each.id) for each in above}
    beside: list[Reference] = []
    if found.kind == "video" and found.above is not None:
        beside.append(("generation", found.above))
    if found.kind == "post" and found.made_by is not None:
        beside.append(("job", found.made_by))
    if found.kind == "job" and found.event_id is not None:
        beside.append(("event", found.event_id))
    return [each for each in beside if each not in shown]


def _of_reference(tx: Tx, kind: str, id_: str) -> Made | None:
    if kind in WHO:
        return None
    return _find(tx, kind, id_)


def _gone(kind: str, id_: str) -> Node:
    """Return a node for what is no row, or not any more."""
    cause = Cause(CauseKind(kind), id_) if kind in WHO else None
    return Node(kind, id_, f"{kind} {id_}" if cause is None else cause.words, None if cause is not None else "gone")


def _find(tx: Tx, kind: str, id_: str) -> Made | None:
    try:
        if kind == "schedule":
            cause = parse(f"schedule:{id_}")
            rows = [] if cause is None or cause.run is None else tx.lineages.run(*cause.run)
        elif kind == "ledger":
            rows = tx.lineages.ledger([int(id_)], 1) if id_.isdecimal() and len(id_) < 19 else []
        elif kind in KINDS:
            rows = tx.lineages.find(kind, [UUID(id_)], 1)
        else:
            rows = []
    except ValueError:
        rows = []
    return rows[0] if rows else None


# --- down ----------------------------------------------------------------------------------------------------------


def _below(tx: Tx, found: Made, shown: set[Reference]) -> tuple[Node, bool]:
    """Return the node with all that came of it, level by level, and whether there is more."""
    key = (found.kind, found.id)
    seen, made = shown | {key}, {key: found}
    children: defaultdict[Reference, list[Reference]] = defaultdict(list)
    cut: set[Reference] = set()
    level, now = [found], tx.now()
    for depth in range(DEEPEST_DOWN + 1):
        room = MOST_ROWS + 1 - (len(made) - 1)
        if not level:
            break
        next_level = []
        for parent, each in _children(tx, level, now, max(room, 1)):
            here = (each.kind, each.id)
            if here in seen:
                continue
            if depth == DEEPEST_DOWN or len(made) > MOST_ROWS:
                cut.add(parent)
                continue
            seen.add(here)
            made[here] = each
            children[parent].append(here)
            next_level.append(each)
        level = next_level

    def tree(at: Reference) -> Node:
        below = sorted((tree(each) for each in children[at]), key=lambda node: (node.at or now, node.kind, node.id))
        return replace(_node(made[at]), children=tuple(below), more=at in cut)

    return tree(key), bool(cut)


def _children(tx: Tx, level: Sequence[Made], now: datetime, most: int) -> list[tuple[Reference, Made]]:
    """Return what came of things of one level, each with its parent."""
    of_kind: defaultdict[str, list[Made]] = defaultdict(list)
    for each in level:
        of_kind[each.kind].append(each)
    found: list[tuple[Reference, Made]] = []
    if jobs := of_kind["job"]:
        rows = [*tx.lineages.enqueued_by(jobs, most), *tx.lineages.generations_of(jobs, most)]
        rows += tx.lineages.ledger_of(jobs, now, most)
        found += [(("job", str(each.above)), each) for each in rows]
        for kind in ("video", "post"):
            named = {id_: job for job in jobs if (id_ := getattr(job, f"{kind}_id")) is not None and _is_uuid(id_)}
            rows = tx.lineages.find(kind, [UUID(id_) for id_ in named], most) if named else []
            found += [(("job", named[each.id].id), each) for each in rows if each.id in named]
    begun = {each.above: (each.kind, each.id) for kind in ("event", "schedule") for each in of_kind[kind] if each.above}
    if begun:
        rows = tx.lineages.find("job", [UUID(job_id) for job_id in begun], most)
        found += [(begun[each.id], each) for each in rows]
    if generations := of_kind["generation"]:
        found += [(("generation", str(each.above)), each) for each in tx.lineages.videos_of(generations, most)]
    if videos := of_kind["video"]:
        found += [(("video", str(each.above)), each) for each in tx.lineages.posts_of(videos, most)]
    return found


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _node(made: Made) -> Node:
    return Node(made.kind, made.id, made.title, made.status, made.at, made.tenant_id)
