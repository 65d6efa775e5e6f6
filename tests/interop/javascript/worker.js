// Work queues, a worker: one task at a time, acknowledged when it is done.
//
// Every dot of a task stands for SECONDS_PER_DOT of work (one second unless the environment says otherwise).
const { setTimeout: sleep } = require('node:timers/promises');
const amqp = require('amqplib');

const secondsPerDot = Number(process.env.SECONDS_PER_DOT ?? '1');

async function work(channel, message) {
  const task = message.content.toString();
  console.log(`${message.fields.redelivered ? 'redelivered' : 'received'} ${task}`);
  await sleep((task.split('.').length - 1) * secondsPerDot * 1000);
  console.log(`done ${task}`);
  channel.ack(message);
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue('task_queue', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await channel.prefetch(1);
  await channel.consume('task_queue', (message) => work(channel, message), { noAck: false });
  console.log('ready');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
