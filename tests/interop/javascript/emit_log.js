// Publish/subscribe, the sender: each argument is one message to the fanout exchange `logs`.
const amqp = require('amqplib');

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertExchange('logs', 'fanout', { durable: false });
  for (const body of process.argv.slice(2)) {
    channel.publish('logs', '', Buffer.from(body));
  }
  await channel.close();
  await connection.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
