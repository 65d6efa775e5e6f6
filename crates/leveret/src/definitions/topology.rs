//! Exchanges, queues and bindings.

use leveret_broker::definitions::{
    BindingDefinition, DefinitionError, Definitions, DestinationKind, ExchangeDefinition, QueueDefinition,
};
use leveret_wire::{TableBuf, Value};

use super::{fields::Object, table};

type Result<T> = std::result::Result<T, DefinitionError>;

fn arguments(object: &Object<'_>) -> Result<TableBuf> {
    table::from_json(&object.pairs("arguments")?).map_err(|reason| object.error(reason))
}

pub(super) fn read_exchanges(file: &Object<'_>, typed: &mut Definitions) -> Result<()> {
    for exchange in file.objects("exchanges")? {
        let (name, vhost) = (exchange.text("name")?, exchange.text("vhost")?);
        let exchange = exchange.named(format!("exchange '{name}' in vhost '{vhost}'"));
        typed.exchanges.push(ExchangeDefinition {
            vhost: vhost.into(),
            name: name.into(),
            kind: exchange.text("type")?.into(),
            durable: exchange.flag_or("durable", true)?,
            auto_delete: exchange.flag_or("auto_delete", false)?,
            internal: exchange.flag_or("internal", false)?,
            arguments: arguments(&exchange)?,
        });
        exchange.finish();
    }
    Ok(())
}

pub(super) fn read_queues(file: &Object<'_>, typed: &mut Definitions) -> Result<()> {
    for queue in file.objects("queues")? {
        let (name, vhost) = (queue.text("name")?, queue.text("vhost")?);
        let queue = queue.named(format!("queue '{name}' in vhost '{vhost}'"));
        let mut arguments = arguments(&queue)?;
        // An export says the type of each queue, beside its argument if it has one. Classic is what
        // a queue is without one, unless its virtual host makes it something else.
        let kind = queue.text_or("type", "")?;
        let by_default = match kind {
            "classic" => {
                typed.vhosts.iter().any(|other| *other.name == *vhost && other.default_queue_type.is_some())
            }
            other => !other.is_empty(),
        };
        if by_default && arguments.as_table().find("x-queue-type").is_none() {
            arguments.push("x-queue-type", Value::LongStr(kind.as_bytes()));
        }
        typed.queues.push(QueueDefinition {
            vhost: vhost.into(),
            name: name.into(),
            durable: queue.flag_or("durable", true)?,
            auto_delete: queue.flag_or("auto_delete", false)?,
            arguments,
        });
        queue.finish();
    }
    Ok(())
}

pub(super) fn read_bindings(file: &Object<'_>, typed: &mut Definitions) -> Result<()> {
    for binding in file.objects("bindings")? {
        let (source, destination) = (binding.text("source")?, binding.text("destination")?);
        let vhost = binding.text("vhost")?;
        let label = format!("binding from '{source}' to '{destination}' in vhost '{vhost}'");
        let binding = binding.named(label);
        let destination_kind = match binding.text("destination_type")? {
            "queue" => DestinationKind::Queue,
            "exchange" => DestinationKind::Exchange,
            other => return Err(binding.error(format!("'{other}' is not a type of destination"))),
        };
        typed.bindings.push(BindingDefinition {
            vhost: vhost.into(),
            source: source.into(),
            destination: destination.into(),
            destination_kind,
            routing_key: binding.text("routing_key")?.as_bytes().into(),
            arguments: arguments(&binding)?,
        });
        // A name that RabbitMQ's management interface gives the binding.
        binding.pass("properties_key");
        binding.finish();
    }
    Ok(())
}
