//! Definitions as RabbitMQ exports them go in, and come out the same.

use std::path::Path;

use leveret::{Broker, Definitions, StartError};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures");

fn read(name: &str) -> Definitions {
    Definitions::read(&Path::new(FIXTURES).join(name)).expect("the fixture is right")
}

async fn started(definitions: Definitions) -> Broker {
    Broker::builder().definitions(definitions).start().await.expect("the definitions fit together")
}

/// Why a broker does not start with them.
async fn refused(json: &str) -> String {
    let definitions = Definitions::from_json(json).expect("each of them is right in itself");
    match Broker::builder().definitions(definitions).start().await {
        Err(error @ StartError::Definitions { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

/// A list of names of things in an export, and one of their fields.
fn field(export: &str, kind: &str, name: &str, pointer: &str) -> serde_json::Value {
    let json: serde_json::Value = serde_json::from_str(export).expect("an export is JSON");
    let found = json[kind].as_array().expect("a list").iter().find(|object| object["name"] == name);
    found.unwrap_or_else(|| panic!("{kind} has no {name}")).pointer(pointer).cloned().unwrap_or_default()
}

#[tokio::test]
async fn what_was_exported_is_imported_and_exported_again() {
    for fixture in ["rabbitmq-3.10.8.json", "rabbitmq-4.json"] {
        let first = started(read(fixture)).await.definitions().to_json();
        let again = Definitions::from_json(&first).expect("our own export is right");
        assert_eq!(started(again).await.definitions().to_json(), first, "{fixture}");
    }
}

/// Everything that RabbitMQ listed is there; lists have another order, and some were written as
/// lists of pairs.
#[tokio::test]
async fn nothing_of_rabbitmqs_export_is_lost() {
    let text = std::fs::read_to_string(Path::new(FIXTURES).join("rabbitmq-3.10.8.json")).unwrap();
    let theirs: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ours = started(read("rabbitmq-3.10.8.json")).await.definitions().to_json();
    let ours: serde_json::Value = serde_json::from_str(&ours).unwrap();
    for (kind, list) in theirs.as_object().unwrap() {
        let Some(list) = list.as_array() else { continue };
        let found = ours[kind].as_array().unwrap();
        assert_eq!(found.len(), list.len(), "{kind}");
        for object in list {
            let mut object = object.clone();
            if kind == "exchanges" {
                object["internal"] = false.into();
            }
            if let Some(pairs) = object.get("limits").and_then(serde_json::Value::as_array) {
                let limits = pairs.iter().map(|pair| (pair[0].as_str().unwrap().to_owned(), pair[1].clone()));
                object["limits"] = limits.collect::<serde_json::Map<_, _>>().into();
            }
            assert!(found.contains(&object), "{kind} has no {object}");
        }
    }
}

#[tokio::test]
async fn the_form_of_rabbitmq_4_is_read() {
    let export = started(read("rabbitmq-4.json")).await.definitions().to_json();
    assert_eq!(field(&export, "queues", "jobs", "/type"), "quorum");
    assert_eq!(field(&export, "queues", "plain", "/type"), "classic");
    assert_eq!(field(&export, "exchanges", "work", "/internal"), true);
    assert_eq!(field(&export, "policies", "limits", "/apply-to"), "quorum_queues");
    assert_eq!(field(&export, "vhosts", "/", "/limits/max-queues"), 50);
    assert_eq!(field(&export, "vhosts", "/", "/metadata/default_queue_type"), "quorum");
}

#[tokio::test]
async fn with_definitions_there_is_no_default_user() {
    let broker = started(Definitions::from_json("{}").unwrap()).await;
    assert!(broker.amqp_uri().starts_with("amqp://127.0.0.1:"));
    let export = broker.definitions().to_json();
    assert!(!export.contains("guest"), "{export}");
    let definitions = Definitions::from_json(r#"{"vhosts": [{"name": "v"}]}"#).unwrap();
    let broker = Broker::builder().definitions(definitions).user("worker", "secret").start().await.unwrap();
    assert!(broker.amqp_uri().starts_with("amqp://worker:secret@127.0.0.1:"));
    assert!(broker.amqp_uri().ends_with("/v"));
}

#[tokio::test]
async fn definitions_that_do_not_fit_together_are_named() {
    let check = async |json: &str, wanted: &str| {
        assert_eq!(refused(json).await, format!("the definitions: {wanted}"));
    };
    check(
        r#"{"permissions": [{"user": "a", "vhost": "/", "configure": "", "write": "", "read": ""}]}"#,
        "permission of user 'a' in vhost '/': there is no user 'a'",
    )
    .await;
    check(r#"{"queues": [{"name": "q", "vhost": "/"}]}"#, "queue 'q' in vhost '/': there is no vhost '/'")
        .await;
    check(
        r#"{"vhosts": [{"name": "/"}], "queues": [{"name": "q", "vhost": "/", "arguments": {"x-max-length": "a"}}]}"#,
        "queue 'q' in vhost '/': invalid arg 'x-max-length' for queue 'q' in vhost '/': \"expected integer, got longstr\"",
    )
    .await;
    check(
        r#"{"vhosts": [{"name": "/"}], "queues": [{"name": "q", "vhost": "/", "type": "quorum", "durable": false}]}"#,
        "queue 'q' in vhost '/': invalid property 'non-durable' for queue 'q' in vhost '/'",
    )
    .await;
    check(
        r#"{"vhosts": [{"name": "/"}], "exchanges": [{"name": "x", "vhost": "/", "type": "x-nope"}]}"#,
        "exchange 'x' in vhost '/': unknown exchange type 'x-nope'",
    )
    .await;
    check(
        r#"{"vhosts": [{"name": "/"}], "bindings": [{"source": "amq.direct", "destination": "q", "vhost": "/", "destination_type": "queue", "routing_key": ""}]}"#,
        "binding from 'amq.direct' to 'q' in vhost '/': no queue 'q' in vhost '/'",
    )
    .await;
    check(r#"{"vhosts": [{"name": "v"}, {"name": "v"}]}"#, "vhost 'v': is there twice").await;
}

#[tokio::test]
async fn definitions_switch_the_firehose_on() {
    let json = r#"{"vhosts": [{"name": "on", "tracing": true}, {"name": "off", "tracing": false}]}"#;
    let broker = started(Definitions::from_json(json).unwrap()).await;
    let export = broker.definitions().to_json();
    assert_eq!(field(&export, "vhosts", "on", "/tracing"), true);
    assert_eq!(field(&export, "vhosts", "off", "/tracing"), serde_json::Value::Null);
    assert!(broker.set_tracing("on", false));
    let export = broker.definitions().to_json();
    assert_eq!(field(&export, "vhosts", "on", "/tracing"), serde_json::Value::Null);
}
