//! Policies, operators' policies, limits of virtual hosts, and other parameters.

use leveret_broker::{
    definitions::{DefinitionError, Definitions, PolicyDefinition},
    model::policy::{Policy, PolicyText, PolicyValue},
};
use serde_json::Value;

use super::{access::vhost_limits, fields::Object};

type Result<T> = std::result::Result<T, DefinitionError>;

pub(super) fn read(file: &Object<'_>, typed: &mut Definitions) -> Result<()> {
    for policy in file.objects("policies")? {
        let (name, vhost) = (policy.text("name")?, policy.text("vhost")?);
        read_policy(
            policy.named(format!("policy '{name}' in vhost '{vhost}'")),
            (name, vhost),
            false,
            typed,
        )?;
    }
    for parameter in file.objects("parameters")? {
        read_parameter(parameter, typed)?;
    }
    for parameter in file.objects("global_parameters")? {
        read_global_parameter(&parameter, typed)?;
    }
    Ok(())
}

fn read_policy(
    policy: Object<'_>,
    (name, vhost): (&str, &str),
    is_operators: bool,
    typed: &mut Definitions,
) -> Result<()> {
    // The name and the virtual host of a policy of its own; of an operator's they are beside it.
    policy.pass("name");
    policy.pass("vhost");
    let definition = policy.pairs("definition")?;
    let text = PolicyText {
        name,
        pattern: policy.text("pattern")?,
        apply_to: policy.text_or("apply-to", "all")?,
        priority: policy.integer_or("priority", 0)?,
        definition: definition.into_iter().map(|(key, json)| (key.into(), value(json))).collect(),
    };
    let parsed = Policy::parse(text, is_operators)
        .map_err(|error| policy.error(error.to_string().replace("\n\n", ": ")))?;
    typed.policies.push(PolicyDefinition { vhost: vhost.into(), is_operators, policy: parsed });
    policy.finish();
    Ok(())
}

fn value(json: &Value) -> PolicyValue {
    match json {
        Value::Null => PolicyValue::Null,
        Value::Bool(flag) => PolicyValue::Bool(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => PolicyValue::Integer(integer),
            None => PolicyValue::Float(number.as_f64().unwrap_or(f64::INFINITY)),
        },
        Value::String(text) => PolicyValue::Text(text.as_str().into()),
        Value::Array(list) => PolicyValue::List(list.iter().map(value).collect()),
        Value::Object(fields) => {
            PolicyValue::Map(fields.iter().map(|(key, json)| (key.as_str().into(), value(json))).collect())
        }
    }
}

fn read_parameter(parameter: Object<'_>, typed: &mut Definitions) -> Result<()> {
    let component = parameter.text("component")?;
    let (name, vhost) = (parameter.text("name")?, parameter.text("vhost")?);
    let label = format!("parameter '{name}' of component '{component}' in vhost '{vhost}'");
    let parameter = parameter.named(label.clone());
    match component {
        "operator_policy" => {
            let policy = Object::new(
                format!("operator policy '{name}' in vhost '{vhost}'"),
                parameter.need("value")?,
            )?;
            read_policy(policy, (name, vhost), true, typed)?;
        }
        "vhost-limits" => {
            let limits = vhost_limits(&parameter, "value")?;
            let vhost = typed.vhosts.iter_mut().find(|known| *known.name == *vhost);
            vhost.ok_or_else(|| parameter.error("there is no such vhost"))?.limits = limits;
        }
        "policy" => return Err(parameter.error("policies may not be set using this method")),
        _ => {
            parameter.pass("value");
            tracing::warn!("{label} is left out: this broker has no {component}");
        }
    }
    parameter.finish();
    Ok(())
}

fn read_global_parameter(parameter: &Object<'_>, typed: &mut Definitions) -> Result<()> {
    match parameter.text("name")? {
        "cluster_name" => typed.cluster_name = Some(parameter.text("value")?.into()),
        // The identity of another cluster.
        "internal_cluster_id" => {}
        other => tracing::warn!("global parameter '{other}' is left out: it is not known here"),
    }
    Ok(())
}
