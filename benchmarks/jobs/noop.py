"""What is measured when the engine itself is: jobs that do nothing, or write one row."""

from workers.job import Context, job


@job("bench.noop", system=True)
def noop(ctx: Context) -> None:
    with ctx.finish():
        pass


@job("bench.effect", system=True)
def effect(ctx: Context) -> None:
    with ctx.finish() as tx:
        tx.driver.execute("INSERT INTO system_metrics (name, value) VALUES ('bench', 1)")
