//! Definitions written as RabbitMQ writes them.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use leveret_broker::{
    access::{HashingAlgorithm, Limit, User},
    definitions::{
        BindingDefinition, Definitions, DestinationKind, ExchangeDefinition, PolicyDefinition,
        QueueDefinition, VhostDefinition,
    },
    model::policy::PolicyValue,
};
use serde_json::{Map, Value, json};

use super::table;

/// The version whose form it is.
const RABBITMQ_VERSION: &str = "3.10.8";

pub(super) fn json(definitions: &Definitions) -> String {
    let (operators, own): (Vec<_>, Vec<_>) =
        definitions.policies.iter().partition(|policy| policy.is_operators);
    let limits = definitions.vhosts.iter().filter_map(limits_parameter);
    let parameters: Vec<_> = operators.into_iter().map(operator_policy).chain(limits).collect();
    let cluster_name = definitions.cluster_name.iter();
    let global_parameters = cluster_name.map(|name| json!({"name": "cluster_name", "value": name}));
    let value = json!({
        "bindings": list(&definitions.bindings, binding),
        "exchanges": list(&definitions.exchanges, exchange),
        "global_parameters": global_parameters.collect::<Vec<_>>(),
        "parameters": parameters,
        "permissions": list(&definitions.permissions, |granted| json!({
            "configure": granted.permission.configure.as_str(),
            "read": granted.permission.read.as_str(),
            "user": granted.user,
            "vhost": granted.vhost,
            "write": granted.permission.write.as_str(),
        })),
        "policies": own.into_iter().map(policy).collect::<Vec<_>>(),
        "queues": list(&definitions.queues, queue),
        "rabbit_version": RABBITMQ_VERSION,
        "rabbitmq_version": RABBITMQ_VERSION,
        "topic_permissions": list(&definitions.topic_permissions, |granted| json!({
            "exchange": granted.exchange,
            "read": granted.permission.read(),
            "user": granted.user,
            "vhost": granted.vhost,
            "write": granted.permission.write(),
        })),
        "users": list(&definitions.users, user),
        "vhosts": list(&definitions.vhosts, vhost),
    });
    format!("{value:#}\n")
}

fn list<T>(of: &[T], write: impl Fn(&T) -> Value) -> Vec<Value> {
    of.iter().map(write).collect()
}

fn user(user: &User) -> Value {
    let (hash, algorithm) = match &user.password {
        Some(password) => (BASE64_STANDARD.encode(password.as_octets()), password.algorithm()),
        None => (String::new(), HashingAlgorithm::default()),
    };
    json!({
        "hashing_algorithm": algorithm.to_string(),
        "limits": limits([
            ("max-channels", user.limits.channels_max),
            ("max-connections", user.limits.connections_max),
        ]),
        "name": user.name,
        "password_hash": hash,
        "tags": user.tags,
    })
}

fn limits<const N: usize>(limits: [(&str, Option<Limit>); N]) -> Map<String, Value> {
    let given = limits.into_iter().filter_map(|(name, limit)| Some((name.to_owned(), limit?.0.into())));
    given.collect()
}

fn vhost_limits(vhost: &VhostDefinition) -> Map<String, Value> {
    limits([("max-connections", vhost.limits.connections_max), ("max-queues", vhost.limits.queues_max)])
}

fn vhost(vhost: &VhostDefinition) -> Value {
    let mut metadata = json!({"description": vhost.description, "tags": vhost.tags});
    if let Some(kind) = vhost.default_queue_type {
        metadata["default_queue_type"] = kind.name().into();
    }
    let mut written = json!({"limits": vhost_limits(vhost), "metadata": metadata, "name": vhost.name});
    if vhost.tracing {
        written["tracing"] = true.into();
    }
    written
}

/// The limits again, in the form from which RabbitMQ reads them.
fn limits_parameter(vhost: &VhostDefinition) -> Option<Value> {
    let limits = vhost_limits(vhost);
    let parameter =
        || json!({"component": "vhost-limits", "name": "limits", "value": limits, "vhost": vhost.name});
    (!limits.is_empty()).then(parameter)
}

fn policy(policy: &PolicyDefinition) -> Value {
    let mut value = policy_value(policy);
    value["name"] = policy.policy.name.as_ref().into();
    value["vhost"] = policy.vhost.as_ref().into();
    value
}

fn operator_policy(policy: &PolicyDefinition) -> Value {
    json!({
        "component": "operator_policy",
        "name": policy.policy.name,
        "value": policy_value(policy),
        "vhost": policy.vhost,
    })
}

fn policy_value(policy: &PolicyDefinition) -> Value {
    let policy = &policy.policy;
    let definition = policy.definition().iter().map(|(key, value)| (key.to_string(), json_of(value)));
    json!({
        "apply-to": policy.apply_to.name(),
        "definition": definition.collect::<Map<_, _>>(),
        "pattern": policy.pattern.as_str(),
        "priority": policy.priority,
    })
}

fn json_of(value: &PolicyValue) -> Value {
    match value {
        PolicyValue::Null => Value::Null,
        PolicyValue::Bool(flag) => (*flag).into(),
        PolicyValue::Integer(integer) => (*integer).into(),
        PolicyValue::Float(float) => (*float).into(),
        PolicyValue::Text(text) => text.as_ref().into(),
        PolicyValue::List(list) => list.iter().map(json_of).collect(),
        PolicyValue::Map(fields) => {
            fields.iter().map(|(key, value)| (key.to_string(), json_of(value))).collect()
        }
    }
}

fn exchange(exchange: &ExchangeDefinition) -> Value {
    json!({
        "arguments": table::to_json(exchange.arguments.as_table()),
        "auto_delete": exchange.auto_delete,
        "durable": exchange.durable,
        "internal": exchange.internal,
        "name": exchange.name,
        "type": exchange.kind,
        "vhost": exchange.vhost,
    })
}

fn queue(queue: &QueueDefinition) -> Value {
    let arguments = queue.arguments.as_table();
    let kind = arguments.find("x-queue-type").and_then(leveret_wire::Value::as_str).unwrap_or("classic");
    json!({
        "arguments": table::to_json(arguments),
        "auto_delete": queue.auto_delete,
        "durable": queue.durable,
        "name": queue.name,
        "type": kind,
        "vhost": queue.vhost,
    })
}

fn binding(binding: &BindingDefinition) -> Value {
    json!({
        "arguments": table::to_json(binding.arguments.as_table()),
        "destination": binding.destination,
        "destination_type": match binding.destination_kind {
            DestinationKind::Queue => "queue",
            DestinationKind::Exchange => "exchange",
        },
        "routing_key": String::from_utf8_lossy(&binding.routing_key),
        "source": binding.source,
        "vhost": binding.vhost,
    })
}
