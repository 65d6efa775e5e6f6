//! `--header name=value`: the headers of messages, and what a headers exchange is asked to match.
//!
//! Invariant: a header typed here is a long string, the type that every client library writes for text.

use std::str::FromStr;

use lapin::types::{AMQPValue, FieldTable, ShortString};

/// One header as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    name: ShortString,
    value: String,
}

impl FromStr for Header {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let (name, value) = typed.split_once('=').ok_or("a header is typed name=value")?;
        match name {
            "" => Err("a header needs a name before the =".to_owned()),
            "x-match" => Err("x-match is what --match is for".to_owned()),
            super::stamp::NO_NEWLINE => Err(format!("{name} is put on by emit itself")),
            _ => Ok(Self { name: short_string(name)?, value: value.to_owned() }),
        }
    }
}

/// The headers as a table; where a name is typed twice the last one stands.
pub(crate) fn table(headers: &[Header]) -> FieldTable {
    let mut table = FieldTable::default();
    for header in headers {
        table.insert(header.name.clone(), AMQPValue::LongString(header.value.as_str().into()));
    }
    table
}

/// Reads a name that the protocol writes with one octet of length.
pub(crate) fn short_string(typed: &str) -> Result<ShortString, String> {
    ShortString::try_new(typed).map_err(|_| "is longer than the protocol's 255 octets".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_equals_sign_divides() {
        let headers = ["a=b=c", "empty="].map(|typed| typed.parse::<Header>().expect(typed));
        let table = table(&headers);
        assert_eq!(table.inner().get("a"), Some(&AMQPValue::LongString("b=c".into())));
        assert_eq!(table.inner().get("empty"), Some(&AMQPValue::LongString("".into())));
    }

    #[test]
    fn what_could_not_be_sent_is_refused() {
        for typed in
            ["novalue", "=x", "x-match=all", "x-leveret-no-newline=1", &format!("{}=1", "n".repeat(256))]
        {
            assert!(typed.parse::<Header>().is_err(), "{typed}");
        }
    }
}
