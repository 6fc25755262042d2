// The tour by node's `pg`: `node tour.js WAYS`, with NODE_PATH where the package is.
const { Client } = require("pg");
const crypto = require("crypto");

const md5 = (what) => crypto.createHash("md5").update(JSON.stringify(what)).digest("hex");

async function open(way, password) {
  const client = new Client({
    host: way.host, port: way.port, user: way.user, database: "postgres",
    password: password || way.password,
    ssl: way.tls ? { rejectUnauthorized: false } : false,
    connectionTimeoutMillis: 60000,
  });
  await client.connect();
  return client;
}

async function tour(way) {
  const saw = (step, what) => console.log([way.name, step, JSON.stringify(what)].join("\t"));
  try {
    await (await open(way, "wrong")).end();
  } catch (error) {
    saw("wrong password", [error.code, error.message]);
  }
  const one = await open(way);
  const big = "SELECT i, md5(i::text) FROM generate_series(1, 20000) i";
  saw("big", md5((await one.query(big)).rows));
  const numbers = [...Array(2000).keys()];
  const many = numbers.map((n) => `$${n + 1}::int`).join(", ");
  saw("parameters",
    (await one.query(`SELECT sum(v) FROM unnest(ARRAY[${many}]) v`, numbers)).rows);
  try {
    await one.query("SELECT 1 / (3 - i) FROM generate_series(1, 9) i");
  } catch (error) {
    saw("error", [error.code, error.message]);
  }
  const rows = [];
  for (let i = 0; i < 20; i++) {
    const named = { name: "again", text: "SELECT $1::text || repeat('x', 500) AS v", values: [i] };
    rows.push((await one.query(named)).rows);
  }
  saw("prepared", md5(rows));
  await one.query("BEGIN");
  await one.query("DECLARE held CURSOR FOR SELECT * FROM generate_series(1, 500)");
  saw("cursor", (await one.query("FETCH 7 FROM held")).rows);
  await one.query("COMMIT");
  const sleeping = one.query("SELECT pg_sleep(60)").catch((error) => error.code);
  setTimeout(() => {
    const other = new Client({
      host: way.host, port: way.port, ssl: way.tls ? { rejectUnauthorized: false } : false,
    });
    other.cancel(one, one._activeQuery || one.activeQuery);
  }, 500);
  saw("cancel", [await sleeping, (await one.query("SELECT 1 AS v")).rows]);
  if (way.writes) {
    const data = Buffer.alloc(300000, 7);
    await one.query("CREATE TEMP TABLE filled (id int, data bytea)");
    for (let i = 0; i < 5; i++) await one.query("INSERT INTO filled VALUES ($1, $2)", [i, data]);
    saw("bytes", md5((await one.query("SELECT * FROM filled ORDER BY id")).rows));
    const heard = new Promise((done) => one.on("notification", (said) => done(said.payload)));
    await one.query("LISTEN tour");
    await one.query("NOTIFY tour, 'of the day'");
    saw("listen", await heard);
  }
  await one.end();
}

(async () => {
  for (const way of JSON.parse(process.argv[2])) await tour(way);
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
