from workers.engine.job import Context, job


@job("twins.job")
def twin(ctx: Context) -> None: ...
