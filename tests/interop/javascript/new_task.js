// Work queues, the sender: each argument is one persistent task on the durable queue `task_queue`.
const amqp = require('amqplib');

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue('task_queue', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  for (const task of process.argv.slice(2)) {
    channel.sendToQueue('task_queue', Buffer.from(task), { persistent: true });
  }
  await channel.close();
  await connection.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
