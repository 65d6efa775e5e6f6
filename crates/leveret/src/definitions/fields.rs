//! An object of JSON whose fields are asked for by name.
//!
//! Invariant: a field that nobody asked for is named in the log.

use std::cell::RefCell;

use leveret_broker::definitions::DefinitionError;
use serde_json::{Map, Value};

type Result<T> = std::result::Result<T, DefinitionError>;

/// An object, and which of its fields were asked for.
pub(super) struct Object<'j> {
    label: String,
    fields: &'j Map<String, Value>,
    asked: RefCell<Vec<&'j str>>,
}

impl<'j> Object<'j> {
    /// The object that the label names in errors.
    pub(super) fn new(label: String, json: &'j Value) -> Result<Self> {
        match json {
            Value::Object(fields) => Ok(Self { label, fields, asked: RefCell::default() }),
            _ => Err(DefinitionError { object: label, reason: "it is not an object".to_owned() }),
        }
    }

    /// The same under another name, once it is known.
    pub(super) fn named(mut self, label: String) -> Self {
        self.label = label;
        self
    }

    /// Something is wrong with it.
    pub(super) fn error(&self, reason: impl Into<String>) -> DefinitionError {
        DefinitionError { object: self.label.clone(), reason: reason.into() }
    }

    /// A field; one of null is none.
    pub(super) fn find(&self, key: &str) -> Option<&'j Value> {
        let (key, value) = self.fields.get_key_value(key)?;
        self.asked.borrow_mut().push(key);
        (!value.is_null()).then_some(value)
    }

    /// A field that means nothing here and is known all the same.
    pub(super) fn pass(&self, key: &str) {
        self.find(key);
    }

    pub(super) fn need(&self, key: &str) -> Result<&'j Value> {
        self.find(key).ok_or_else(|| self.error(format!("it has no '{key}'")))
    }

    pub(super) fn text(&self, key: &str) -> Result<&'j str> {
        self.need(key)?.as_str().ok_or_else(|| self.error(format!("'{key}' is not text")))
    }

    pub(super) fn text_or(&self, key: &str, default: &'j str) -> Result<&'j str> {
        match self.find(key) {
            Some(_) => self.text(key),
            None => Ok(default),
        }
    }

    pub(super) fn flag_or(&self, key: &str, default: bool) -> Result<bool> {
        match self.find(key) {
            Some(value) => value.as_bool().ok_or_else(|| self.error(format!("'{key}' is not true or false"))),
            None => Ok(default),
        }
    }

    pub(super) fn integer_or(&self, key: &str, default: i64) -> Result<i64> {
        match self.find(key) {
            Some(value) => value.as_i64().ok_or_else(|| self.error(format!("'{key}' is not a whole number"))),
            None => Ok(default),
        }
    }

    /// A list of objects, each named by its number; none when there is no such field.
    pub(super) fn objects(&self, key: &str) -> Result<Vec<Object<'j>>> {
        let Some(value) = self.find(key) else { return Ok(Vec::new()) };
        let list = value.as_array().ok_or_else(|| self.error(format!("'{key}' is not a list")))?;
        let numbered = list.iter().zip(1..);
        numbered.map(|(json, number)| Object::new(format!("{key}, number {number}"), json)).collect()
    }

    /// Words, as a list or with commas between them.
    pub(super) fn words(&self, key: &str) -> Result<Option<Vec<Box<str>>>> {
        let words = match self.find(key) {
            None => return Ok(None),
            Some(Value::String(text)) => text.split(',').map(str::trim).collect(),
            Some(Value::Array(list)) => {
                let words: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
                words.ok_or_else(|| self.error(format!("'{key}' is not a list of words")))?
            }
            Some(_) => return Err(self.error(format!("'{key}' is not a list of words"))),
        };
        Ok(Some(words.into_iter().filter(|word| !word.is_empty()).map(Into::into).collect()))
    }

    /// Names and values: an object, or the list of pairs that RabbitMQ 3 writes for some.
    pub(super) fn pairs(&self, key: &str) -> Result<Vec<(&'j str, &'j Value)>> {
        match self.find(key) {
            None => Ok(Vec::new()),
            Some(value) => pairs(value).ok_or_else(|| self.error(format!("'{key}' is not an object"))),
        }
    }

    /// Names in the log what nobody asked for.
    pub(super) fn finish(self) {
        let asked = self.asked.into_inner();
        for (key, value) in self.fields {
            if asked.contains(&key.as_str()) {
                continue;
            }
            let object = &self.label;
            match value {
                Value::Array(list) if !list.is_empty() => {
                    tracing::warn!("{object}: what '{key}' lists is not known here and is left out");
                }
                _ => tracing::info!("{object}: '{key}' is not known here and changes nothing"),
            }
        }
    }
}

fn pairs(value: &Value) -> Option<Vec<(&str, &Value)>> {
    match value {
        Value::Object(fields) => Some(fields.iter().map(|(key, value)| (key.as_str(), value)).collect()),
        Value::Array(list) => {
            let pair = |pair: &'_ Value| match pair.as_array()?.as_slice() {
                [key, _] if key.is_string() => Some(()),
                _ => None,
            };
            list.iter().map(pair).collect::<Option<Vec<()>>>()?;
            Some(list.iter().filter_map(|pair| Some((pair.get(0)?.as_str()?, pair.get(1)?))).collect())
        }
        _ => None,
    }
}
