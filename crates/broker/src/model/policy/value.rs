//! A value in a policy's definition, which shows itself as RabbitMQ's texts show it.

use std::fmt;

/// A value as JSON has it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum PolicyValue {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(Box<str>),
    List(Vec<Self>),
    Map(Vec<(Box<str>, Self)>),
}

/// A value, or several, as an Erlang term.
impl fmt::Display for PolicyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => value.fmt(f),
            Self::Integer(value) => value.fmt(f),
            // Rust's own form for debugging has the point that Erlang's always has.
            Self::Float(value) => fmt::Debug::fmt(value, f),
            Self::Text(text) => write!(f, "<<{text:?}>>"),
            Self::List(values) => {
                let values: Vec<_> = values.iter().map(Self::to_string).collect();
                write!(f, "[{}]", values.join(","))
            }
            Self::Map(fields) => {
                let field = |(name, value): &(Box<str>, Self)| format!("<<{name:?}>> => {value}");
                write!(f, "#{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_erlang_terms() {
        let check = |value: PolicyValue, wanted: &str| assert_eq!(value.to_string(), wanted);
        check(PolicyValue::Text("a".into()), "<<\"a\">>");
        check(PolicyValue::Integer(-1), "-1");
        check(PolicyValue::Float(2.0), "2.0");
        check(PolicyValue::List(vec![PolicyValue::Bool(true), PolicyValue::Null]), "[true,null]");
        check(PolicyValue::Map(vec![("a".into(), PolicyValue::Integer(1))]), "#{<<\"a\">> => 1}");
    }
}
