//! The publish/subscribe tutorial's sender: one log line to everybody who listens.
//!
//! `cargo run --example emit_log -- "info: Hello World!"`, with the broker at `AMQP_URL`.

use std::error::Error;

use lapin::{
    BasicProperties, Connection, ConnectionProperties, ExchangeKind,
    options::{BasicPublishOptions, ExchangeDeclareOptions},
    types::FieldTable,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::var("AMQP_URL").unwrap_or_else(|_| "amqp://localhost:5672".to_owned());
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;

    let (options, arguments) = (ExchangeDeclareOptions::default(), FieldTable::default());
    channel.exchange_declare("logs".into(), ExchangeKind::Fanout, options, arguments).await?;

    let words: Vec<String> = std::env::args().skip(1).collect();
    let message = if words.is_empty() { "info: Hello World!".to_owned() } else { words.join(" ") };
    let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
    channel.basic_publish("logs".into(), "".into(), options, message.as_bytes(), properties).await?;
    println!(" [x] Sent {message}");

    connection.close(200, "done".into()).await?;
    Ok(())
}
