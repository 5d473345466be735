"""`viral dev demo`"""

from datetime import UTC, datetime
from pathlib import Path
from random import SystemRandom
from typing import Annotated

import typer

from cli.arguments import Port
from cli.demo import play
from cli.loop import MOST_SEED
from cli.output import console
from cli.own_system import INTERRUPTED, ended_as_by_ctrl_c, own_home
from domain.text.readable import readable

LABEL = (
    "SIMULATED DATA: made-up tenants, months of a past that never was, and an outside that is played on this machine."
)
READY = """
demo: ready {url}
  It took {seconds:.0f} s. The page opens on this machine without a token, for looking.
  To act, sign in at {url}/login with this token of role act:
  {token}
  In another shell: export VIRAL_HOME={home}; viral status
  Ctrl-C ends it{kept}.
"""


def demo(
    seed: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=MOST_SEED, help="The same world again. Default: another.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(metavar="N", min=0, help="End by itself so long after it is ready. Default: never.")
    ] = None,
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep all of it in this new folder. Default: keep nothing.")
    ] = None,
    port: Port = None,
) -> None:
    """Show a whole world on the operator's page.

    Some dozen tenants on every plan, with months behind them, sign up, pay or fail to, generate, render, post and
    learn; something happens every few seconds, and now and then something fails. It needs no account and meets nobody:
    the product runs in a home and on a port of its own, and all that is outside is simulated on this machine.

    \b
    viral dev demo
    viral dev demo --seed 7 --seconds 60
    """
    chosen = SystemRandom().randrange(MOST_SEED + 1) if seed is None else seed
    print_now = console().print

    def say(text: str) -> None:
        print_now(f"{datetime.now(UTC):%H:%M:%S}  {readable(text)}", markup=False, highlight=False, soft_wrap=True)

    with ended_as_by_ctrl_c(), own_home(home) as place:
        print_now(f"{LABEL}\nseed {chosen}\n", markup=False)

        def ready(url: str, token: str, took: float) -> None:
            kept = f"; viral up --home {home} shows it again" if home else ", and all of it is gone"
            text = READY.format(url=url, seconds=took, token=token, home=place, kept=kept)
            print_now(text, markup=False, highlight=False, soft_wrap=True)

        whole = play(
            place, seed=chosen, port=port or 0, seconds=seconds, say=say, ready=ready, durable=home is not None
        )
    if not whole:
        raise typer.Exit(INTERRUPTED)
