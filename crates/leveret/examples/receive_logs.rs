//! The publish/subscribe tutorial's receiver: prints every log line that is sent while it runs.
//!
//! `cargo run --example receive_logs`, with the broker at `AMQP_URL`.

use std::error::Error;

use futures_lite::StreamExt;
use lapin::{
    Connection, ConnectionProperties, ExchangeKind,
    options::{BasicConsumeOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://localhost:5672".to_owned());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;

    let (options, arguments) = (ExchangeDeclareOptions::default(), FieldTable::default());
    channel.exchange_declare("logs".into(), ExchangeKind::Fanout, options, arguments).await?;

    // A queue with a name of the broker's choosing, that goes when we do.
    let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare("".into(), options, FieldTable::default()).await?;
    let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel.queue_bind(queue.name().clone(), "logs".into(), "".into(), options, arguments).await?;

    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let arguments = FieldTable::default();
    let mut messages = channel.basic_consume(queue.name().clone(), "".into(), options, arguments).await?;
    println!(" [*] Waiting for logs. To exit press CTRL+C");
    while let Some(message) = messages.next().await {
        println!(" [x] {}", String::from_utf8_lossy(&message?.data));
    }
    Ok(())
}
