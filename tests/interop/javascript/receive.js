// Hello world, the receiver: prints what arrives on the queue `hello`, acknowledged as it is delivered.
const amqp = require('amqplib');

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue('hello', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  const print = (message) => console.log(`received ${message.content}`);
  await channel.consume('hello', print, { noAck: true });
  console.log('ready');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
