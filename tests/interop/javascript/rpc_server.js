// RPC, the server: answers each request on `rpc_queue`, a number n, with the n-th Fibonacci number.
const amqp = require('amqplib');

function fibonacci(n) {
  let [previous, current] = [0, 1];
  for (let step = 0; step < n; step++) [previous, current] = [current, previous + current];
  return previous;
}

function answer(channel, request) {
  const number = Number(request.content.toString());
  console.log(`request ${number}`);
  const { replyTo, correlationId } = request.properties;
  channel.sendToQueue(replyTo, Buffer.from(String(fibonacci(number))), { correlationId });
  channel.ack(request);
}

async function main() {
  const connection = await amqp.connect(process.env.AMQP_URL);
  const channel = await connection.createChannel();
  await channel.assertQueue('rpc_queue', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await channel.prefetch(1);
  await channel.consume('rpc_queue', (request) => answer(channel, request));
  console.log('ready');
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
