// @supabase/stripe-sync-engine takes signed webhooks: `setup` makes its tables; `apply` processes the lines of
// BENCH_BODIES (signature, tab, body) in 2 processes, as many at once in each as its pool has connections, and answers
// {"events", "seconds", "cpu"} as JSON. It keeps copies of Stripe's objects, and decides nothing. What it asks Stripe
// for besides (the lines of a checkout) is answered at once, with nothing. NODE_HOME: where npm installed it.
const { fork } = require("node:child_process");
const fs = require("node:fs");
const { createRequire } = require("node:module");

const { runMigrations, StripeSync } = createRequire(`${process.env.NODE_HOME}/here.js`)("@supabase/stripe-sync-engine");

const PROCESSES = 2;
const CONNECTIONS = 10; // as shipped

async function* nothing() {}

async function setup() {
  await runMigrations({ databaseUrl: process.env.DATABASE_URL, schema: "stripe" });
  console.log("{}");
}

function lines() {
  return fs.readFileSync(process.env.BENCH_BODIES, "utf8").trimEnd().split("\n");
}

async function part(number) {
  const all = lines();
  const mine = all.slice((all.length * number) / PROCESSES, (all.length * (number + 1)) / PROCESSES);
  const sync = new StripeSync({
    poolConfig: { connectionString: process.env.DATABASE_URL, max: CONNECTIONS },
    stripeSecretKey: "sk_test_bench",
    stripeWebhookSecret: process.env.STRIPE_WEBHOOK_SECRET,
  });
  sync.stripe.checkout.sessions.listLineItems = nothing;
  await Promise.all(Array.from({ length: CONNECTIONS }, () => sync.postgresClient.query("SELECT pg_sleep(0.1)")));
  process.send({});
  await new Promise((resolve) => process.once("message", resolve));
  const before = process.cpuUsage();
  let next = 0;
  async function one() {
    while (next < mine.length) {
      const [signature, body] = mine[next++].split("\t");
      await sync.processWebhook(body, signature);
    }
  }
  await Promise.all(Array.from({ length: CONNECTIONS }, one));
  const used = process.cpuUsage(before);
  process.send({ cpu: (used.user + used.system) / 1e6 });
  await sync.postgresClient.pool.end();
  process.disconnect();
}

function message(child) {
  return new Promise((resolve, reject) => {
    child.once("message", resolve);
    child.once("exit", (code) => reject(new Error(`exit code ${code}`)));
  });
}

async function apply() {
  const parts = Array.from({ length: PROCESSES }, (_, n) => fork(__filename, ["part", String(n)]));
  await Promise.all(parts.map(message));
  const began = process.hrtime.bigint();
  const done = parts.map(message);
  parts.forEach((child) => child.send({}));
  const used = await Promise.all(done);
  const seconds = Number(process.hrtime.bigint() - began) / 1e9;
  console.log(JSON.stringify({ events: lines().length, seconds, cpu: used.reduce((sum, { cpu }) => sum + cpu, 0) }));
}

const [command, number] = process.argv.slice(2);
if (command === "setup") setup();
else if (command === "part") part(Number(number));
else apply();
