// Topics, the sender: each argument KEY=BODY is one message to the topic exchange `topic_logs`.
const amqp = require('amqplib');

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertExchange('topic_logs', 'topic', { durable: false });
  for (const argument of process.argv.slice(2)) {
    const [key, body] = argument.split('=', 2);
    channel.publish('topic_logs', key, Buffer.from(body));
  }
  await channel.close();
  await connection.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
