"""Posts as people read them: rows for tables, a check before anything is sent, what became of a post."""

from collections.abc import Mapping, Sequence
from typing import Any

from cli.output import console
from domain.learning.scoring import prediction_words
from domain.posting.posts import PostStatus
from domain.text.readable import lines, readable
from domain.videos.profiles import NAMES
from workers.jobs.post_plans import Planned
from workers.ops.post_stories import PostExplanation

ENDED_WELL = (PostStatus.PUBLISHED, PostStatus.IN_INBOX)


def listed_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a post for a table."""
    text = " ".join(str(row["title"] or row["caption"]).split())
    note = None if row["status"] in ENDED_WELL else row["error_message"]
    return {**row, "account": row["username"], "text": text or None, "note": note}


def simplified(row: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a post what says nothing to a person."""
    options = "; ".join(f"{name}: {readable(value)}" for name, value in row["options"].items())
    return {
        "post_id": row["id"],
        "status": row["status"],
        "platform": NAMES[row["platform"]],
        "account": row["username"],
        "video": row["video_id"],
        "title": row["title"] or None,
        "caption": row["caption"] or None,
        "hashtags": " ".join(f"#{tag.lstrip('#')}" for tag in row["hashtags"]) or None,
        "options": options or None,
        "cover_at": row["cover_at"],
        "first_comment": row["first_comment"],
        "scheduled_for": row["scheduled_for"],
        "sent_at": row["submitted_at"],
        "published_at": row["published_at"],
        "prediction": prediction_words(row["prediction"]),
        "address": row["permalink"],
        "platform_id": row["external_id"],
        "note": row["error_message"],
        "explained_by": f"viral posts explain {row['id']}",
        "account_id": row["account_id"],
        "tenant_id": row["tenant_id"],
        "job_id": row["job_id"],
        "created_at": row["created_at"],
    }


def say_checked(checked: Sequence[Planned]) -> None:
    """Print what would be posted to each account, and what is wrong with it."""
    out = console()
    for number, each in enumerate(checked):
        if number:
            out.print()
        out.print(f"{NAMES[each.platform]}, {readable(each.account)}", style="bold")
        for fault in each.faults:
            out.print(f"  wrong: {fault}", style="red")
        for hint in each.hints:
            out.print(f"  note: {hint}")
        shown = each.preview
        when = readable(shown.at) if shown.at else "as soon as possible"
        out.print(f"  when: {when}{f' ({each.at_reason})' if each.at_reason else ''}")
        if shown.title:
            out.print(f"  title: {readable(shown.title)}")
        for line in lines(shown.text).split("\n"):
            out.print(f"  | {line}")
        for count in shown.counts:
            out.print(f"  {count.part}: {count.count:,} of {count.most:,} {count.unit}")
        for name, value in shown.options.items():
            out.print(f"  {name}: {readable(value)}")
        label = f"its label {shown.ai_label}" if shown.ai_label else None
        if by := label or (shown.ai_words and f"the words “{shown.ai_words}”"):
            out.print(f"  that a program made it is shown by {by}")


def say_explained(found: PostExplanation) -> None:
    """Print what became of a post."""
    out, post = console(), found.post
    out.print(f"{NAMES[post['platform']]}, {readable(post['username'])}: {post['status']}", style="bold")
    for title, sentences in (("Certain", found.certain), ("Not known", found.uncertain)):
        for sentence in sentences:
            out.print(f"{title}: {readable(sentence)}")
    when = f" (at {readable(found.next_at)})" if found.next_at else ""
    out.print(f"Next: {readable(found.next) + when if found.next else 'nothing happens by itself'}")
    for advice in found.advice:
        out.print(f"What to do: {advice.says}" + (f": `{advice.command}`" if advice.command else ""))
    for reason in found.job:
        out.print(f"Its job: {readable(reason.says)}" + (f" ({reason.advice})" if reason.advice else ""))
    if found.prediction:
        out.print(f"Prediction: {readable(found.prediction)}")
    if found.numbers:
        out.print(f"Numbers: {readable(found.numbers)}; `viral posts metrics {post['id']}` has all")
    if found.events:
        out.print("\nWhat happened", style="bold")
    for event in found.events:
        out.print(f"{readable(event['at'])}  {event['kind']}: {readable(event['message'])}")
