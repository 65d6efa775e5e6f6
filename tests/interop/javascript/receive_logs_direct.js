// Routing, a subscriber: prints the messages of the direct exchange `direct_logs` that its arguments, binding keys, ask for.
const amqp = require('amqplib');

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertExchange('direct_logs', 'direct', { durable: false });
  const { queue } = await channel.assertQueue('', { exclusive: true });
  for (const key of process.argv.slice(2)) {
    await channel.bindQueue(queue, 'direct_logs', key);
  }
  const print = (message) => console.log(`received ${message.fields.routingKey}=${message.content}`);
  await channel.consume(queue, print, { noAck: true });
  console.log(`ready ${queue}`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
