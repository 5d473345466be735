"""The autopilot's chains as people read them: rows for tables, and where one stands and why."""

from collections.abc import Mapping
from typing import Any

from cli.output import console, dollars
from domain.autopilot.explanation import Decision
from domain.text.readable import readable
from domain.videos.profiles import NAMES
from workers.ops.autopilot import ChainExplanation


def chain_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chain for a table."""
    spent = row["spent_usd"] + row["reserved_usd"]
    return {**row, "score": _score(row["score"]), "spent": dollars(spent) if spent else None}


def say_explained(found: ChainExplanation) -> None:
    """Print where a chain stands, why, and what comes next."""
    out, chain, says = console(), found.chain, found.explanation
    which = f"video {chain['place']} of {chain['day']}, {chain['mode']}"
    out.print(f"Chain {chain['id']} ({which}): {chain['stage']}", style="bold")
    out.print(f"Stands: {readable(says.stands)}")
    if says.why:
        out.print(f"Why: {readable(says.why)}")
    if says.decision:
        _say_decision(says.decision)
    out.print(f"Cost: {readable(says.cost)}")
    for title, sentences in (("Certain", says.certain), ("Not known", says.uncertain)):
        for sentence in sentences:
            out.print(f"{title}: {readable(sentence)}")
    for post in says.posts:
        out.print(f"Post: {NAMES[post.platform]}, {readable(post.username or post.account_id)}: {readable(post.says)}")
        out.print(f"      `viral posts explain {post.id}`")
    for each in says.left_out:
        out.print(f"Left out: {readable(each)}")
    when = f" (at {readable(says.next_at)})" if says.next_at else ""
    out.print(f"Next: {readable(says.next) + when if says.next else 'nothing happens by itself'}")
    for advice in says.advice:
        out.print(f"What to do: {readable(advice.says)}" + (f": `{advice.command}`" if advice.command else ""))
    out.print("\nWhat happened", style="bold")
    for event in found.events:
        job = f"  (job {event['job_id']})" if event["job_id"] else ""
        message = event["message"].removeprefix(f"{event['kind']}: ")
        out.print(f"{readable(event['at'])}  {event['kind']}: {readable(message)}{job}")


def _say_decision(decision: Decision) -> None:
    out = console()
    if decision.concept_id is not None:
        out.print(f"Taken: {readable(decision.title or decision.concept_id)}, score {_score(decision.score)}")
    for each in decision.passed_over:
        scored = "" if each.score is None else f", score {_score(each.score)}"
        out.print(f"Passed over: {readable(each.title or each.concept_id)}{scored}: {readable(each.why)}")


def _score(score: Any) -> str | None:
    return None if score is None else f"{float(score):.4g}"
