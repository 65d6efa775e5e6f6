//! Arguments as JSON has them, and as field tables: whole numbers are 64 bits wide, others
//! doubles, and texts long strings, as RabbitMQ reads them.

use leveret_wire::{Array, ArrayBuf, ShortStr, Table, TableBuf, Value};
use serde_json::{Map, Number, Value as Json};

/// The table for an object.
///
/// # Errors
/// What is wrong, in words.
pub(super) fn from_json(fields: &[(&str, &Json)]) -> Result<TableBuf, String> {
    let table = fields_of(fields.iter().copied())?;
    // JSON may be nested deeper than tables.
    Table::new(table.as_table().as_bytes()).map_err(|error| format!("arguments: {error}"))?;
    Ok(table)
}

fn fields_of<'j>(fields: impl Iterator<Item = (&'j str, &'j Json)>) -> Result<TableBuf, String> {
    let mut table = TableBuf::new();
    for (name, json) in fields {
        let short = ShortStr::new(name.as_bytes());
        let short =
            short.ok_or_else(|| format!("the argument '{name}' has a name of more than 255 octets"))?;
        with_value(json, &mut |value| table.push_field(short, value))?;
    }
    Ok(table)
}

/// Hands the value on, whose octets may be its own.
fn with_value(json: &Json, take: &mut dyn FnMut(Value<'_>)) -> Result<(), String> {
    match json {
        Json::Null => take(Value::Void),
        Json::Bool(flag) => take(Value::Bool(*flag)),
        Json::String(text) => take(Value::LongStr(text.as_bytes())),
        Json::Number(number) => take(match number.as_i64() {
            Some(integer) => Value::I64(integer),
            None => Value::F64(number.as_f64().ok_or_else(|| format!("{number} is not a number"))?),
        }),
        Json::Array(list) => {
            let mut array = ArrayBuf::new();
            for json in list {
                with_value(json, &mut |value| array.push(value))?;
            }
            take(Value::Array(array.as_array()));
        }
        Json::Object(fields) => {
            let table = fields_of(fields.iter().map(|(name, json)| (name.as_str(), json)))?;
            take(Value::Table(table.as_table()));
        }
    }
    Ok(())
}

/// The object for a table.
pub(super) fn to_json(table: Table<'_>) -> Json {
    let mut fields = Map::new();
    for (name, value) in table.iter() {
        // Names may repeat, and the first one counts.
        fields.entry(name.to_string()).or_insert_with(|| json(value));
    }
    Json::Object(fields)
}

fn json(value: Value<'_>) -> Json {
    if let Some(integer) = value.as_integer() {
        return integer.into();
    }
    match value {
        Value::Bool(flag) => flag.into(),
        Value::F32(float) => Json::from(f64::from(float)),
        Value::F64(float) => Json::from(float),
        Value::Decimal { scale, value } => Json::from(f64::from(value) / 10_f64.powi(scale.into())),
        Value::LongStr(octets) | Value::Octets(octets) => String::from_utf8_lossy(octets).into(),
        Value::Array(array) => list(array),
        Value::Timestamp(seconds) => Json::Number(Number::from(seconds)),
        Value::Table(table) => to_json(table),
        _ => Json::Null,
    }
}

fn list(array: Array<'_>) -> Json {
    Json::Array(array.iter().map(json).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_come_back_as_they_went_in() {
        let text = r#"{"a":1,"b":-1.5,"c":"text","d":[true,null,{"e":"f"}],"g":{"h":[]}}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        let fields: Vec<_> =
            json.as_object().unwrap().iter().map(|(name, json)| (name.as_str(), json)).collect();
        let table = from_json(&fields).unwrap();
        assert_eq!(table.as_table().find("a"), Some(Value::I64(1)));
        assert_eq!(to_json(table.as_table()), json);
    }

    #[test]
    fn what_no_table_holds_is_refused() {
        let long = "n".repeat(256);
        assert!(from_json(&[(&long, &Json::Null)]).unwrap_err().contains("more than 255 octets"));
        let deep = (0..=leveret_wire::TABLE_DEPTH_MAX).fold(Json::Null, |json, _| Json::Array(vec![json]));
        assert!(from_json(&[("deep", &deep)]).is_err());
    }
}
