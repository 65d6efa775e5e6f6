//! Who may log in from where.

mod client;

use client::{Unheeded, Zeros};
use leveret_broker::Now;
use leveret_broker::access::{PasswordHash, User};
use leveret_broker::definitions::Definitions;
use leveret_broker::engine::{Config, Connection, Engine, Peer};
use leveret_wire::method::{LongStr, connection};
use leveret_wire::{Method, ProtocolHeader, TableBuf, Value, decode_frame};

const NOW: Now = Now { monotonic_millis: 1, wall_millis: 1 };

/// The answer to a login: tune, or a close with its text.
fn answer(users: &[User], is_loopback: bool, response: &[u8]) -> String {
    let definitions = Definitions { users: users.to_vec(), ..Definitions::default() };
    let engine = Engine::new(Config { definitions, ..Config::default() }, Box::new(Zeros));
    let peer = Peer { name: "peer".to_owned(), is_loopback };
    let mut connection = Connection::new(&engine, peer, Box::new(Unheeded), NOW);
    connection.receive(&ProtocolHeader::SUPPORTED, NOW);
    let start_octets = connection.output().len();
    connection.sent(start_octets, NOW);
    let capabilities = TableBuf::new().with("authentication_failure_close", Value::Bool(true));
    let properties = TableBuf::new().with("capabilities", Value::Table(capabilities.as_table()));
    let start_ok = connection::StartOk {
        client_properties: properties.as_table(),
        mechanism: "PLAIN".into(),
        response: LongStr(response),
        locale: "en_US".into(),
    };
    let mut octets = Vec::new();
    Method::from(start_ok).write_frame(0, &mut octets);
    connection.receive(&octets, NOW);
    connection.advance(NOW);
    let said = connection.output().parts().collect::<Vec<_>>().concat();
    let (frame, _) = decode_frame(&said, u32::MAX).unwrap().expect("a login is answered");
    match Method::decode(frame.payload).unwrap() {
        Method::ConnectionTune(_) => "tune".to_owned(),
        Method::ConnectionClose(close) => format!("{} {}", close.reply_code, close.reply_text),
        other => panic!("{other:?}"),
    }
}

const REFUSED: &str = "403 ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see \
                       the broker logfile.";

#[test]
fn guest_logs_in_from_loopback_only() {
    let guests = Config::default().definitions.users;
    assert_eq!(answer(&guests, true, b"\0guest\0guest"), "tune");
    assert_eq!(answer(&guests, false, b"\0guest\0guest"), REFUSED);
}

#[test]
fn others_log_in_from_anywhere() {
    let alice = User::new("alice", PasswordHash::new("secret", [1, 2, 3, 4]));
    assert_eq!(answer(std::slice::from_ref(&alice), false, b"\0alice\0secret"), "tune");
    assert_eq!(answer(std::slice::from_ref(&alice), false, b"\0alice\0secre"), REFUSED);
    assert_eq!(answer(std::slice::from_ref(&alice), true, b"\0alice\0"), REFUSED);
    assert_eq!(answer(&[alice], true, b"\0guest\0guest"), REFUSED);
}

#[test]
fn a_user_without_a_password_or_with_a_blank_one_does_not_log_in() {
    let blank = User::new("alice", PasswordHash::new("", [1, 2, 3, 4]));
    let none = User { password: None, ..blank.clone() };
    for user in [blank, none] {
        assert_eq!(answer(&[user], true, b"\0alice\0"), REFUSED);
    }
}
