//! Headers routing: a binding's arguments against a message's headers.
//!
//! `x-match` says whether all or any of them must be there; arguments beginning `x-` count only
//! in the `-with-x` forms. A void argument asks for presence alone. As observed on RabbitMQ
//! 3.10: numbers are equal by value, be they integers of any width, floats or timestamps.

use indexmap::IndexSet;
use leveret_wire::{ShortStr, Table, Value};
use smallvec::SmallVec;

use crate::{
    model::{arguments::erlang_text, binding::Binding, found::Found},
    refusal::Refusal,
};

/// How many of its arguments a binding asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Match {
    All { with_x: bool },
    Any { with_x: bool },
}

impl Match {
    fn of(arguments: Table<'_>) -> Result<Self, Refusal> {
        match arguments.find("x-match") {
            None => Ok(Self::All { with_x: false }),
            Some(Value::LongStr(name)) => Self::from_name(name),
            Some(other) => Err(Refusal::InvalidHeadersMatch(format!(
                "Invalid x-match field type {} (value {}); expected longstr",
                other.type_name(),
                crate::model::arguments::value_text(other),
            ))),
        }
    }

    fn from_name(name: &[u8]) -> Result<Self, Refusal> {
        match name {
            b"all" => Ok(Self::All { with_x: false }),
            b"any" => Ok(Self::Any { with_x: false }),
            b"all-with-x" => Ok(Self::All { with_x: true }),
            b"any-with-x" => Ok(Self::Any { with_x: true }),
            other => Err(Refusal::InvalidHeadersMatch(format!(
                "Invalid x-match field value {}; expected all, any, all-with-x, or any-with-x",
                erlang_text(other)
            ))),
        }
    }

    const fn with_x(self) -> bool {
        match self {
            Self::All { with_x } | Self::Any { with_x } => with_x,
        }
    }
}

/// Checks the arguments of a binding to a headers exchange before it is made.
///
/// # Errors
/// [`Refusal::InvalidHeadersMatch`] when `x-match` is of another type or value.
pub fn validate(arguments: Table<'_>) -> Result<(), Refusal> {
    Match::of(arguments).map(drop)
}

/// The bindings of a headers exchange.
#[derive(Debug, Default)]
pub struct HeadersTable {
    bindings: IndexSet<Binding>,
}

impl HeadersTable {
    /// Adds a binding.
    pub fn insert(&mut self, binding: &Binding) {
        self.bindings.insert(binding.clone());
    }

    /// Removes a binding that was added.
    pub fn remove(&mut self, binding: &Binding) {
        self.bindings.swap_remove(binding);
    }

    /// Adds the destinations of a message with these headers to `found`.
    pub fn route(&self, headers: Table<'_>, found: &mut Found) {
        let headers = sorted(headers);
        let wanting = self.bindings.iter().filter(|binding| matches(binding.arguments.as_table(), &headers));
        found.extend(wanting.map(|binding| binding.destination));
    }
}

type Field<'a> = (ShortStr<'a>, Value<'a>);

/// The fields in the order of their names, as those of a binding stand.
fn sorted(headers: Table<'_>) -> SmallVec<[Field<'_>; 8]> {
    let mut fields: SmallVec<_> = headers.iter().collect();
    fields.sort_by_key(|(name, _)| *name);
    fields
}

/// Both are gone through side by side, as RabbitMQ does: where a name comes twice, the first of one
/// stands against the first of the other.
fn matches(arguments: Table<'_>, headers: &[Field<'_>]) -> bool {
    let Ok(kind) = Match::of(arguments) else { return false };
    let asked = arguments
        .iter()
        .filter(|(name, _)| name.as_bytes() != b"x-match")
        .filter(|(name, _)| kind.with_x() || !name.as_bytes().starts_with(b"x-"));
    let mut headers = headers.iter().peekable();
    let (mut all, mut any) = (true, false);
    for (name, wanted) in asked {
        while headers.next_if(|(found, _)| *found < name).is_some() {}
        let found = headers.next_if(|(found, _)| *found == name);
        let holds = found.is_some_and(|(_, value)| value_matches(wanted, *value));
        all &= holds;
        any |= holds;
    }
    match kind {
        Match::All { .. } => all,
        Match::Any { .. } => any,
    }
}

fn value_matches(wanted: Value<'_>, value: Value<'_>) -> bool {
    match (wanted, value) {
        (Value::Void, _) => true,
        (Value::LongStr(one) | Value::Octets(one), Value::LongStr(other) | Value::Octets(other)) => {
            one == other
        }
        (one, other) => match (number(one), number(other)) {
            (Some(one), Some(other)) => numbers_equal(one, other),
            _ => one == other,
        },
    }
}

#[derive(Clone, Copy)]
enum Number {
    Integer(i64),
    Float(f64),
}

fn number(value: Value<'_>) -> Option<Number> {
    match value {
        Value::F32(float) => Some(Number::Float(float.into())),
        Value::F64(float) => Some(Number::Float(float)),
        Value::Timestamp(seconds) => i64::try_from(seconds).ok().map(Number::Integer),
        other => other.as_integer().map(Number::Integer),
    }
}

#[allow(clippy::cast_precision_loss, reason = "a float beyond 2^53 equals the integer nearest to it")]
#[allow(clippy::float_cmp, reason = "equal means equal, as in RabbitMQ")]
fn numbers_equal(one: Number, other: Number) -> bool {
    match (one, other) {
        (Number::Integer(one), Number::Integer(other)) => one == other,
        (Number::Float(one), Number::Float(other)) => one == other,
        (Number::Integer(integer), Number::Float(float))
        | (Number::Float(float), Number::Integer(integer)) => integer as f64 == float,
    }
}

#[cfg(test)]
mod tests {
    use leveret_wire::TableBuf;

    use super::*;

    fn table(fields: &[(&str, Value<'_>)]) -> TableBuf {
        let mut table = TableBuf::new();
        for (name, value) in fields {
            table.push(name, *value);
        }
        table
    }

    fn check(arguments: &[(&str, Value<'_>)], headers: &[(&str, Value<'_>)], wanted: bool) {
        let arguments_table = TableBuf::sorted(table(arguments).as_table());
        let found = matches(arguments_table.as_table(), &sorted(table(headers).as_table()));
        assert_eq!(found, wanted, "{arguments:?} on {headers:?}");
    }

    const PDF: (&str, Value<'_>) = ("format", Value::LongStr(b"pdf"));
    const REPORT: (&str, Value<'_>) = ("type", Value::LongStr(b"report"));
    const ALL: (&str, Value<'_>) = ("x-match", Value::LongStr(b"all"));
    const ANY: (&str, Value<'_>) = ("x-match", Value::LongStr(b"any"));
    const ALL_WITH_X: (&str, Value<'_>) = ("x-match", Value::LongStr(b"all-with-x"));
    const ANY_WITH_X: (&str, Value<'_>) = ("x-match", Value::LongStr(b"any-with-x"));
    const X_A: (&str, Value<'_>) = ("x-a", Value::I32(1));

    #[test]
    fn all_wants_all_and_any_wants_one() {
        check(&[PDF, REPORT], &[PDF, REPORT], true);
        check(&[PDF, REPORT], &[PDF], false);
        check(&[ALL, PDF, REPORT], &[REPORT, PDF, X_A], true);
        check(&[ANY, PDF, REPORT], &[REPORT], true);
        check(&[ANY, PDF], &[REPORT], false);
    }

    #[test]
    fn no_arguments_match_everything_or_nothing() {
        check(&[], &[], true);
        check(&[ALL], &[PDF], true);
        check(&[ANY], &[PDF], false);
        check(&[ANY_WITH_X], &[PDF], false);
    }

    #[test]
    fn names_beginning_with_x_count_when_asked() {
        check(&[ALL, X_A], &[], true);
        check(&[ANY, X_A], &[X_A], false);
        check(&[ALL_WITH_X, X_A], &[], false);
        check(&[ALL_WITH_X, X_A], &[X_A], true);
        check(&[ANY_WITH_X, X_A, PDF], &[X_A], true);
    }

    #[test]
    fn values_are_compared_as_rabbitmq_compares_them() {
        let a = |value| [("a", value)];
        check(&a(Value::Void), &a(Value::I32(1)), true);
        check(&a(Value::I32(1)), &a(Value::Void), false);
        check(&a(Value::I32(1)), &a(Value::U8(1)), true);
        check(&a(Value::I64(2)), &a(Value::F64(2.0)), true);
        check(&a(Value::I32(1)), &a(Value::Bool(true)), false);
        check(&a(Value::LongStr(b"s")), &a(Value::Octets(b"s")), true);
        check(&a(Value::Timestamp(5)), &a(Value::Timestamp(5)), true);
        check(&a(Value::Timestamp(5)), &a(Value::I64(5)), true);
        check(&a(Value::Timestamp(u64::MAX)), &a(Value::I64(-1)), false);
        check(&a(Value::I32(1)), &a(Value::LongStr(b"1")), false);
    }

    #[test]
    fn an_unknown_match_is_refused_by_name() {
        let refused = |value| validate(table(&[("x-match", value)]).as_table()).unwrap_err().to_string();
        assert_eq!(
            refused(Value::LongStr(b"zz")),
            "Invalid x-match field value <<\"zz\">>; expected all, any, all-with-x, or any-with-x"
        );
        assert_eq!(
            refused(Value::I32(1)),
            "Invalid x-match field type signedint (value 1); expected longstr"
        );
    }
}
