// Publish/subscribe, a subscriber: prints what the fanout exchange `logs` brings to a queue of its own.
const amqp = require('amqplib');

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertExchange('logs', 'fanout', { durable: false });
  const { queue } = await channel.assertQueue('', { exclusive: true });
  await channel.bindQueue(queue, 'logs', '');
  const print = (message) => console.log(`received ${message.content}`);
  await channel.consume(queue, print, { noAck: true });
  console.log(`ready ${queue}`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
