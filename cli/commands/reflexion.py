"""`viral reflexion`"""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from cli.acting import Reason, act
from cli.arguments import among
from cli.commands.accuracy import show_accuracy
from cli.commands.replay import run_replay
from cli.output import AsJson, Limit, console, print_json, show
from cli.session import session
from cli.shell import Group
from domain.concepts.wording import counted
from domain.learning.learner import MODELS, YARDSTICK
from domain.learning.outcomes import LEARNED
from domain.learning.scoring import SCORED
from domain.ops.actions import Performed
from domain.text.readable import readable
from workers.ops import reflexion

app = Group()

app.command("accuracy")(show_accuracy)

OneTenant = Annotated[UUID, typer.Option("--tenant", metavar="ID", help="Whose scores.")]
OnePlatform = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"{', '.join(SCORED)}. Default: all of them.", autocompletion=among(SCORED)),
]
OneHorizon = Annotated[
    str | None,
    typer.Option(metavar="AGE", help=f"{' or '.join(LEARNED)}. Default: both.", autocompletion=among(LEARNED)),
]

PARTS = {
    "prior": "what others' posts showed",
    "platform": "your posts on this platform",
    "category": "your posts of this category",
    "features": "time, length, hashtags, category",
    "account": "this account",
}


@app.command("status")
def show_status(
    tenant: Annotated[
        UUID | None, typer.Option("--tenant", metavar="ID", help="Whose learners. Default: all tenants together.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show which model scores, and how far off it was lately.

    Gaps are means of the last 60 outcomes, in points; skill is 1 - gap / the gap of a running median.

    \b
    viral reflexion status --tenant ID
    """
    with session() as current:
        found = reflexion.overview(current) if tenant is None else reflexion.status(current, tenant)
    if as_json:
        print_json(found)
    elif tenant is None:
        _show_overview(found)
    else:
        _show_status(found)


@app.command("history")
def show_history(tenant: OneTenant, limit: Limit = 30, as_json: AsJson = False) -> None:
    """Show what changed a tenant's scores, newest first.

    Promotions and rollbacks of models too, and why.

    \b
    viral reflexion history --tenant ID
    """
    with session() as current:
        rows = reflexion.history(current, tenant, limit=limit)
    columns = ("at", "kind", "platform", "horizon", "category", "change", "model", "outcomes", "reason")
    show(rows, columns, as_json=as_json, nothing="Nothing has changed yet.", simplified=_change, whole=("reason",))


@app.command("promote")
def promote(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help=f"{', '.join(each for each in MODELS if each != YARDSTICK)}.",
            autocompletion=among(each for each in MODELS if each != YARDSTICK),
        ),
    ],
    tenant: OneTenant,
    platform: OnePlatform = None,
    horizon: OneHorizon = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Have a model score for a tenant, whatever figures say.

    It goes back by itself if it does worse than the one before on the next outcomes.

    \b
    viral reflexion promote ridge/v1 --tenant 01a20417-5ccc-7850-9558-0a37b805228c --platform tiktok
    """
    arguments = {"model": model, "platform": platform, "horizon": horizon}
    with session() as current:
        done = act(current, "model.promote", f"tenant:{tenant}", arguments, reason=reason)
    _show_changes(done, as_json=as_json)


@app.command("rollback")
def roll_back(
    tenant: OneTenant,
    platform: OnePlatform = None,
    horizon: OneHorizon = None,
    reason: Reason = None,
    as_json: AsJson = False,
) -> None:
    """Let the model score again that did before.

    \b
    viral reflexion rollback --tenant 01a20417-5ccc-7850-9558-0a37b805228c
    """
    arguments = {"platform": platform, "horizon": horizon}
    with session() as current:
        done = act(current, "model.rollback", f"tenant:{tenant}", arguments, reason=reason)
    _show_changes(done, as_json=as_json)


@app.command("explain")
def explain(
    post: Annotated[UUID | None, typer.Argument(metavar="POST", help="A post's id.")] = None,
    tenant: Annotated[UUID | None, typer.Option("--tenant", metavar="ID", help="Whose concept it would be.")] = None,
    category: Annotated[str | None, typer.Option(metavar="NAME", help="The category of the concept.")] = None,
    platform: Annotated[
        str | None, typer.Option(metavar="NAME", help=f"{', '.join(SCORED)}.", autocompletion=among(SCORED))
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain a post's score, or what a concept would get now.

    \b
    viral reflexion explain POST
    viral reflexion explain --tenant ID --category food --platform tiktok
    """
    if post is not None and category is None and platform is None:
        with session() as current:
            found = reflexion.explain_post(current, tenant, post)
    elif post is None and tenant is not None and category is not None and platform is not None:
        with session() as current:
            found = reflexion.explain_concept(current, tenant, platform=platform, category=category)
    else:
        raise typer.BadParameter("name a post, or --tenant, --category and --platform")
    if as_json:
        print_json(found)
    elif post is not None:
        _show_post(found)
    else:
        _show_concept(found)


app.command("replay")(run_replay)


# --- for people -------------------------------------------------------------------------------------------------------


def _show_overview(found: Mapping[str, Any]) -> None:
    columns = ("platform", "horizon", "tenants", "outcomes", "promoted", "median_gap", "median_skill", "worse")
    rows = [
        {**row, "median_gap": _points(row["gap"]), "median_skill": _two(row["skill"])} for row in found["platforms"]
    ]
    show(rows, columns, as_json=False, nothing="Nothing was learned yet.")
    if rows:
        console().print(
            "\npromoted: learners for which another model scores; worse: their champion is clearly worse than a"
            " running median"
        )
    console().print(_waiting(found))
    changed = found["pool_changed_at"]
    console().print(f"the pool of all tenants changed last at {readable(changed)}" if changed else "no pool yet")


def _show_status(found: Mapping[str, Any]) -> None:
    columns = (
        "platform",
        "horizon",
        "outcomes",
        "champion",
        "since",
        "gap",
        "running_median",
        "others",
        "skill",
        "note",
    )
    rows = [_learner(each) for each in found["learners"]]
    show(rows, columns, as_json=False, nothing="Nothing was learned yet.", whole=("others",))
    console().print(f"\n{_waiting(found)}")
    for each in found["set_aside"]:
        where = f"{each['platform']}, {each['horizon']}"
        console().print(f"{counted(each['count'], 'outcome')} set aside ({where}): {each['reason']}")


def _learner(each: Mapping[str, Any]) -> dict[str, Any]:
    gaps, champion = dict(each["trailing"]), each["champion"]
    median = gaps.pop(YARDSTICK, None)
    own = gaps.pop(champion, None)
    others = ", ".join(f"{name} {gap['gap']:.1f} ({gap['outcomes']})" for name, gap in gaps.items())
    return {
        **{name: each[name] for name in ("platform", "horizon", "outcomes", "champion")},
        "since": each["champion_since"],
        "gap": _points(own and own["gap"]),
        "running_median": _points(median and median["gap"]),
        "others": others or None,
        "skill": _two(each["skill"]),
        "note": "something has changed lately" if each["drifting"] else None,
    }


def _waiting(found: Mapping[str, Any]) -> str:
    if not found["waiting"]:
        return "no outcome waits to be learned"
    verb, since = "waits" if found["waiting"] == 1 else "wait", readable(found["waiting_since"])
    return f"{counted(found['waiting'], 'outcome')} {verb} to be learned, the first since {since}"


def _change(row: Mapping[str, Any]) -> dict[str, Any]:
    old, new = row["old_value"], row["new_value"]
    change = None if old is None or new is None else f"{old:g} → {new:g}"
    kind = row["kind"] if row["applied"] else f"{row['kind']} (declined)"
    return {**row, "kind": kind, "change": change, "category": row["category"] or None}


def _show_changes(done: Performed, *, as_json: bool) -> None:
    columns = ("platform", "horizon", "champion", "before")
    rows = []
    for each, model in done.after.items():
        platform, _, horizon = each.partition(" ")
        rows.append({"platform": platform, "horizon": horizon, "champion": model, "before": done.before[each]})
    show(rows, columns, as_json=as_json, nothing="")


def _show_post(found: Mapping[str, Any]) -> None:
    if not found["predictions"]:
        console().print(f"{found['platform']}: nothing was predicted of this post.")
    for each in found["predictions"]:
        if each["shown"]:
            console().print(
                f"{found['platform']}, {each['horizon']} after publication: {each['score']:.0f} of 100"
                f" ({each['low']:.0f} to {each['high']:.0f}), by {each['model']} at {readable(each['made_at'])}"
            )
            _show_parts(each["parts"])
            _show_outcome(each, found["outcomes"].get(each["horizon"]))
    others = [each for each in found["predictions"] if not each["shown"]]
    rows = [
        {name: each[name] for name in ("horizon", "model")}
        | {"score": f"{each['score']:.0f}", "interval": f"{each['low']:.0f} to {each['high']:.0f}"}
        for each in others
    ]
    if rows:
        console().print("\nin the shadow, or of another horizon:")
        show(rows, ("horizon", "model", "score", "interval"), as_json=False, nothing="")


def _show_outcome(prediction: Mapping[str, Any], outcome: Mapping[str, Any] | None) -> None:
    if outcome is None or (outcome["actual"] is None and outcome["set_aside"] is None):
        console().print("no outcome was learned yet")
    elif outcome["actual"] is None:
        console().print(f"nothing was learned of it: {outcome['set_aside']}")
    else:
        actual = float(outcome["actual"])
        console().print(f"it came to {actual:.0f}: {actual - prediction['score']:+.0f}")


def _show_concept(found: Mapping[str, Any]) -> None:
    console().print(
        f"{found['category']} on {found['platform']}: {found['score']} of 100 ({found['low']} to {found['high']}), by"
        f" {found['model']}, {counted(found['outcomes'], 'outcome')} of evidence"
    )
    _show_parts(found["parts"])
    others = {name: score for name, score in found["models"].items() if name != found["model"]}
    if others:
        console().print(f"others say {', '.join(f'{name} {score:.0f}' for name, score in others.items())}")


def _show_parts(parts: list[dict[str, Any]]) -> None:
    rows = []
    before = 0.0
    for number, each in enumerate(parts):
        change = None if number == 0 else f"{each['score'] - before:+.1f}"
        rows.append({"from": PARTS.get(each["part"], each["part"]), "points": change, "score": f"{each['score']:.1f}"})
        before = each["score"]
    show(rows, ("from", "points", "score"), as_json=False, nothing="")


def _points(value: float | None) -> str | None:
    return None if value is None else f"{value:.1f}"


def _two(value: float | None) -> str | None:
    return None if value is None else f"{value:+.2f}"
