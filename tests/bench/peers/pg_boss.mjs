// pg-boss: node pg_boss.mjs prepare COUNT | drain COUNT; prints {"seconds","cpu"}. Jobs are fetched and
// completed 500 at a time by four loops; its own work() would wait for its polling interval (0.5 s at
// least) between two batches. One INSERT for each job, prepared. The database is in PGHOST, PGUSER, PGDATABASE.
import PgBoss from "pg-boss";
import pg from "pg";

const QUEUE = "CommentAdded";
const LOOPS = Number(process.env.LOOPS ?? 4);
const [mode, count] = [process.argv[2], Number(process.argv[3])];
const boss = new PgBoss({ host: process.env.PGHOST, user: process.env.PGUSER, database: process.env.PGDATABASE, max: 25 });
boss.on("error", (error) => { console.error(error); process.exit(1); });
await boss.start();

if (mode === "prepare") {
  await boss.createQueue(QUEUE);
  const job = (i) => ({
    name: QUEUE,
    data: { comment_id: String(i), item_id: String(i % 100), author_name: "Ada", text: "hello world, this is a comment", timestamp: "2026-01-01T00:00:00Z" },
  });
  for (let i = 0; i < count; i += 5000) await boss.insert(Array.from({ length: Math.min(5000, count - i) }, (_, k) => job(i + k)));
} else {
  const pool = new pg.Pool({ max: 25 });
  const insert = ({ data }) => pool.query({
    name: "insert",
    text: "INSERT INTO item_comments (comment_id, item_id, author_name, text, timestamp) VALUES ($1, $2, $3, $4, $5)",
    values: [data.comment_id, data.item_id, data.author_name, data.text, data.timestamp],
  });
  const begin = process.hrtime.bigint();
  let done = 0;
  await Promise.all(Array.from({ length: LOOPS }, async () => {
    while (done < count) {
      const jobs = await boss.fetch(QUEUE, { batchSize: 500 });
      await Promise.all(jobs.map(insert));
      if (jobs.length > 0) await boss.complete(QUEUE, jobs.map((job) => job.id));
      done += jobs.length;
    }
  }));
  console.log(JSON.stringify({ seconds: Number(process.hrtime.bigint() - begin) / 1e9, cpu: process.cpuUsage() }));
}
process.exit(0);
