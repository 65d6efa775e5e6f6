// Hello world, the sender: each argument is one message to the queue `hello`.
const amqp = require('amqplib');

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue('hello', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  for (const body of process.argv.slice(2)) {
    channel.sendToQueue('hello', Buffer.from(body));
  }
  await channel.close();
  await connection.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
