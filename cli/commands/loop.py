"""`viral dev loop`"""

from collections.abc import Mapping
from pathlib import Path
from random import SystemRandom
from typing import Annotated, Any

import typer

from cli.loop import MOST_ROUNDS, MOST_SEED, PLATFORMS, Event, play
from cli.output import AsJson, console, print_json, print_line
from cli.own_system import INTERRUPTED, ended_as_by_ctrl_c, own_home
from domain.learning.numbers import Horizon
from domain.learning.outcomes import SHOWN
from domain.posting.platforms import CONCEPT_KEYS
from domain.text.readable import readable, shortened
from domain.videos.profiles import NAMES
from simulators.outside import LABEL

GONE = "All of it is gone again; with --home DIR it is kept, the video too."


def loop(
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, max=MOST_SEED, help="The same concepts and the same numbers again. Default: others."
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(metavar="N", min=1, max=MOST_ROUNDS, help="How often, each time with the next concept.")
    ] = 1,
    home: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep all of it in this new folder, for `viral up --home`. Default: keep nothing."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the whole loop in a minute, from trends to scores.

    It makes a concept and its video, posts that to three platforms, collects the numbers and learns from them: the
    scores of the second round begin with the first round's outcomes. It needs no account and
    meets nobody: the product runs in a home of its own, and the sources of trends and the platforms are simulated on
    this machine. The posts are made older, since nobody wants to wait for a week.

    \b
    viral dev loop --seed 7
    viral dev loop --rounds 2 --json
    """
    chosen = SystemRandom().randrange(MOST_SEED + 1) if seed is None else seed
    rows: list[Event] = []

    def say(event: Event) -> None:
        if event["event"] == "numbers":
            rows.extend(event["rows"])
        if event["event"] == "learning":
            _add_learned(rows, event)
        if not as_json:
            show_event(event)

    with ended_as_by_ctrl_c(), own_home(home) as place:
        if not as_json:
            console().print(f"{LABEL}\nseed {chosen}\n")
        whole = play(place, seed=chosen, rounds=rounds, say=say, durable=home is not None)
        if whole and not as_json:
            console().print(f"\nKept, the video too: viral up --home {home}" if home else f"\n{GONE}")
    if not whole:
        raise typer.Exit(INTERRUPTED)
    if as_json:
        print_json(rows)


# --- what is shown --------------------------------------------------------------------------------------------------


def show_event(event: Mapping[str, Any]) -> None:
    """Show what has happened, and how long it took."""
    took = f"{event['took_s']:5.1f} s  "
    match event["event"]:
        case "servers":
            _print(took, f"Postgres, Redis, the simulated platforms: {event['page']}")
        case "accounts":
            names = ", ".join(NAMES[each] for each in event["accounts"])
            _print(took, f"web, worker, scheduler; accounts connected (simulated): {names}")
        case "concept":
            concept = event["concept"]
            _print(took, f"concept {event['round']} (the best of {event['of']}): {readable(concept['title'])}")
            _print("", f"  of the trend  {readable(concept['topic'])} ({readable(concept['trendSource'])})")
            scores = concept["platformVirality"]
            found = [f"{NAMES[each]} {scores[CONCEPT_KEYS.get(each, each)]['score']:g}" for each in PLATFORMS]
            _print("", f"  predicted     {', '.join(found)} of 100")
        case "video":
            _print(took, f"video: {event['path']}, {event['seconds']:.0f} s, sha256 {event['sha256'][:16]}…")
        case "posts":
            _print(took, "posts (simulated, nobody sees them):")
            for post in event["posts"]:
                _print("", f"  {NAMES[post['platform']]:<16} {readable(post['permalink'])}")
        case "numbers":
            _print(took, "views (simulated) at each age of a post:")
            _show_table(event["rows"])
        case "learning":
            _print(took, "learned, in points of 100, 24 h after publication:")
            _show_learned(event["rows"])
            if event["critique"]:
                _print("", f"  critique ({event['critic']}): {shortened(readable(event['critique']))}")


def _add_learned(rows: list[Event], event: Mapping[str, Any]) -> None:
    """Add what was predicted of a post, and what came of it, to its row at the horizon that scores are of."""
    learned = {row["post_id"]: row for row in event["rows"]}
    for row in rows:
        if row["post_id"] in learned and row["horizon"] == SHOWN:
            row |= {name: learned[row["post_id"]][name] for name in ("predicted", "actual", "set_aside", "next")}


def _show_learned(rows: list[Event]) -> None:
    cells = [["", "predicted", "interval", "actual", "the next one like it"]]
    for row in rows:
        interval = f"{row['low']:.0f} to {row['high']:.0f}"
        found = (row["predicted"], row["actual"], row["next"])
        predicted, actual, next_one = ("—" if each is None else f"{each:.0f}" for each in found)
        cells.append([NAMES[row["platform"]], predicted, interval, actual, next_one])
    _print_right(cells)


def _print(took: str, text: str) -> None:
    console().print(f"{took:<9}{text}")


def _show_table(rows: list[Event]) -> None:
    views = {(row["platform"], row["horizon"]): row["views"] for row in rows}
    platforms = list(dict.fromkeys(row["platform"] for row in rows))
    cells = [["", *Horizon]]
    for platform in platforms:
        found = [views[platform, each] for each in Horizon]
        cells.append([NAMES[platform], *("—" if each is None else f"{each:,}" for each in found)])
    _print_right(cells)


def _print_right(cells: list[list[str]]) -> None:
    """Print a table whose columns but the first are numbers."""
    widths = [max(len(line[n]) for line in cells) for n in range(len(cells[0]))]
    for line in cells:
        padded = [
            line[0].ljust(widths[0]),
            *(each.rjust(width) for each, width in zip(line[1:], widths[1:], strict=True)),
        ]
        print_line(["", *padded], [9, *widths])
