"""`viral`: the shell of operators. Exit code 0: done; 1: failed; 2: the command line makes no sense."""

import sys

import typer

from cli import dev, events, jobs, processes, quota, tenants

app = typer.Typer(
    name="viral",
    help="The workers of Viral Dashboard: webhooks in, jobs done, each effect once.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
processes.add_to(app)
app.add_typer(jobs.app, name="jobs", help="Enqueue jobs, and see what became of them.")
app.add_typer(tenants.app, name="tenants", help="Who uses the system, on which plan.")
app.add_typer(quota.app, name="quota", help="What is left of a tenant's concepts, and since when.")
app.add_typer(events.app, name="events", help="What Stripe and Clerk told us, and what we made of it.")
app.add_typer(dev.app, name="dev", help="Play the outside: signed events without a Stripe or Clerk account.")


def main() -> None:
    """Run one command; what this system foresees is one clear line on standard error, and never a traceback."""
    from cli.local.spawn import EmbeddedError
    from domain.errors import ViralError

    try:
        app()
    except (ViralError, EmbeddedError) as error:
        sys.stderr.write(f"viral: {error}\n")
        sys.exit(1)
    except BrokenPipeError:
        # The reader of a pipe (`| head`) has seen enough.
        sys.stderr.close()
        sys.exit(0)


if __name__ == "__main__":
    main()
