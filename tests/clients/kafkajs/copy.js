/*
 * copy: records through KafkaJS, from one topic to another in transactions, and on through a group whose second member comes
 * and goes. Run by tests/clients/test_kafkajs.py:  node copy.js BOOTSTRAP FROM TO PARTITIONS COUNT_PER_PARTITION
 *
 * Every third transaction is aborted after all was sent, and done again. So TO holds more than FROM, and a reader of committed
 * records must see each record once and in its order. Ends with "ok ..." and exit code 0, or says what was wrong.
 */
const { Kafka, logLevel } = require('kafkajs');

const BATCH = 40;
const LIMIT_MS = 60_000;

const [bootstrap, from, to, partitionWord, countWord] = process.argv.slice(2);
const partitions = Number(partitionWord);
const count = Number(countWord);
const kafka = new Kafka({ clientId: 'copy', brokers: [bootstrap], logLevel: logLevel.ERROR, retry: { initialRetryTime: 50, retries: 8 } });
const numbers = [...Array(partitions).keys()];
const groupOptions = { sessionTimeout: 10_000, heartbeatInterval: 500, rebalanceTimeout: 10_000, maxWaitTimeInMs: 50 };

/** Resolves when `done` is called; rejects when `fail` is, or when it takes too long. */
function awaited(what) {
  const result = {};
  result.promise = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what} did not come`)), LIMIT_MS);
    result.done = () => { clearTimeout(timer); resolve(); };
    result.fail = (error) => { clearTimeout(timer); reject(error); };
  });
  return result;
}

async function fill() {
  const producer = kafka.producer({ idempotent: true });
  await producer.connect();
  for (let first = 0; first < count; first += 100) {
    const messages = numbers.flatMap((partition) => [...Array(Math.min(100, count - first)).keys()]
      .map((each) => ({ partition, value: String(first + each) })));
    await producer.send({ topic: from, messages });
  }
  await producer.disconnect();
}

/** One transaction: the records, and how far FROM is read by the group. */
async function copyChunk(producer, group, partition, chunk, abort) {
  const transaction = await producer.transaction();
  try {
    await transaction.send({ topic: to, messages: chunk.map((message) => ({ partition, value: message.value })) });
    const offset = (BigInt(chunk[chunk.length - 1].offset) + 1n).toString();
    await transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic: from, partitions: [{ partition, offset }] }] });
  } catch (error) {
    await transaction.abort();
    throw error;
  }
  await (abort ? transaction.abort() : transaction.commit());
}

async function copyAll() {
  const group = `${from}-copiers`;
  const producer = kafka.producer({ transactionalId: `${from}-copier`, idempotent: true, maxInFlightRequests: 1 });
  const consumer = kafka.consumer({ groupId: group, ...groupOptions });
  await producer.connect();
  await consumer.connect();
  await consumer.subscribe({ topics: [from], fromBeginning: true });
  const all = awaited('the last copy');
  let left = partitions * count;
  let transactions = 0;
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat }) => {
      try {
        for (let first = 0; first < batch.messages.length; first += BATCH) {
          const chunk = batch.messages.slice(first, first + BATCH);
          transactions += 1;
          if (transactions % 3 === 0) {
            await copyChunk(producer, group, batch.partition, chunk, true);
          }
          await copyChunk(producer, group, batch.partition, chunk, false);
          resolveOffset(chunk[chunk.length - 1].offset);
          left -= chunk.length;
          await heartbeat();
        }
        if (left === 0) {
          all.done();
        }
      } catch (error) {
        all.fail(error);
        throw error;
      }
    },
  });
  await all.promise;
  await consumer.disconnect();
  await producer.disconnect();
  await checkCommitted(group, from, () => count);
}

async function checkCommitted(group, topic, due) {
  const admin = kafka.admin();
  await admin.connect();
  const [{ partitions: committed }] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
  await admin.disconnect();
  for (const { partition, offset } of committed) {
    if (Number(offset) !== due(partition)) {
      throw new Error(`${group} has committed ${offset} of partition ${partition} of ${topic}, and not ${due(partition)}`);
    }
  }
  if (committed.length !== partitions) {
    throw new Error(`${group} has committed ${JSON.stringify(committed)}`);
  }
}

/** One reader of all committed records, each due once; then a group that is joined and left in the midst. */
async function readAll() {
  const next = numbers.map(() => 0);
  const all = awaited('the last committed record');
  const consumer = kafka.consumer({ groupId: `${to}-reader`, ...groupOptions });
  await consumer.connect();
  await consumer.subscribe({ topics: [to], fromBeginning: true });
  await consumer.run({
    eachMessage: async ({ partition, message }) => {
      if (Number(message.value.toString()) !== next[partition]) {
        all.fail(new Error(`partition ${partition} has ${message.value} where ${next[partition]} is due`));
      }
      next[partition] += 1;
      if (next.every((each) => each === count)) {
        all.done();
      }
    },
  });
  await all.promise;
  await consumer.disconnect();
}

async function shareAll() {
  const groupId = `${from}-readers`;
  const seen = numbers.map(() => new Set());
  const [half, joined, all] = [awaited('half'), awaited('the second member'), awaited('the rest')];
  let paced = true;
  const take = async ({ partition, message }) => {
    seen[partition].add(message.value.toString());
    const total = seen.reduce((sum, each) => sum + each.size, 0);
    if (total >= partitions * count / 2) half.done();
    if (total === partitions * count) all.done();
    if (paced) await new Promise((resolve) => setTimeout(resolve, 2));
  };
  const member = async () => {
    const consumer = kafka.consumer({ groupId, ...groupOptions });
    await consumer.connect();
    await consumer.subscribe({ topics: [from], fromBeginning: true });
    return consumer;
  };
  const first = await member();
  await first.run({ eachMessage: take });
  const second = await member();
  second.on(second.events.GROUP_JOIN, ({ payload }) => {
    if ((payload.memberAssignment[from] || []).length === partitions / 2) joined.done();
  });
  await second.run({ eachMessage: take });
  await joined.promise;
  paced = false;
  await half.promise;
  await second.disconnect();
  await all.promise;
  await first.disconnect();
  await checkCommitted(groupId, from, () => count);
}

async function main() {
  await fill();
  await copyAll();
  await readAll();
  await shareAll();
  console.log(`ok ${partitions * count} records`);
}

main().then(() => process.exit(0), (error) => {
  console.error(error);
  process.exit(1);
});
