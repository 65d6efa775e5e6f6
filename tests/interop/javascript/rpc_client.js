// RPC, a client: asks for the Fibonacci number of each argument, all at once, and prints the answers.
//
// Every request has a correlation id of its own, and an answer with an unknown one is an error.
const { randomUUID } = require('node:crypto');
const amqp = require('amqplib');

const pending = new Map();

function take(answer) {
  const { correlationId } = answer.properties;
  const number = pending.get(correlationId);
  if (!pending.delete(correlationId)) throw new Error(`nobody asked for ${correlationId}`);
  console.log(`answer ${number}=${answer.content}`);
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  const { queue: replyTo } = await channel.assertQueue('', { exclusive: true });
  const answered = new Promise((resolve) => {
    const onAnswer = (answer) => {
      take(answer);
      if (pending.size === 0) resolve();
    };
    channel.consume(replyTo, onAnswer, { noAck: true });
  });
  for (const number of process.argv.slice(2)) {
    const correlationId = randomUUID();
    pending.set(correlationId, number);
    channel.sendToQueue('rpc_queue', Buffer.from(number), { correlationId, replyTo });
  }
  await answered;
  await connection.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
