// graphile-worker in its batched mode: a local queue of 500 jobs, completions written together. NODE_HOME: where npm
// installed it.
const fs = require("node:fs");
const { createRequire } = require("node:module");

const { Logger, run, runMigrations } = createRequire(`${process.env.NODE_HOME}/here.js`)("graphile-worker");

const CONCURRENCY = 24;
const logger = new Logger(() => () => {});
let marks = null;

function noop({ number }) {
  if (number) {
    marks ??= fs.openSync(process.env.BENCH_MARKS, "a", 0o600);
    fs.writeSync(marks, `${number} ${process.hrtime.bigint()}\n`);
  }
}

async function main() {
  const worker = {
    connectionString: process.env.DATABASE_URL,
    concurrentJobs: CONCURRENCY,
    maxPoolSize: CONCURRENCY + 2,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  };
  if (process.argv[2] === "setup") {
    await runMigrations({ preset: { worker }, logger });
    return;
  }
  const runner = await run({ preset: { worker }, logger, noHandleSignals: true, taskList: { noop } });
  process.on("SIGTERM", async () => {
    await runner.stop();
    process.exit(0);
  });
}

main();
