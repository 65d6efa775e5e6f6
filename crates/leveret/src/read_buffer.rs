//! Reading a socket into a buffer that all connections of a thread share.
//!
//! Only what is left of a read, mostly less than a frame, is kept with the connection, so that an
//! idle connection holds no buffer. Invariant: octets are handed to the engine in the order in
//! which they came, each once.

use std::{cell::RefCell, io};

use leveret_broker::{
    Now,
    engine::{Connection, Reading},
};
use tokio::net::TcpStream;

/// Octets asked for in one read. Larger reads bring more messages into one step; past this the
/// gain is lost in the cache.
const READ_OCTETS: usize = 128 * 1024;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What came of a turn of reading.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Read {
    /// Something was handed in.
    Some,
    /// The socket has nothing.
    Nothing,
    /// The peer closed its side, or the socket failed.
    Closed,
}

/// What a connection was handed and did not take yet.
#[derive(Debug, Default)]
pub(crate) struct Remainder {
    octets: Vec<u8>,
    /// Whether the connection stopped because it had enough, not because a frame is incomplete.
    whole: bool,
}

impl Remainder {
    /// Hands the connection what is left and what the socket has.
    pub(crate) fn read(&mut self, stream: &TcpStream, connection: &mut Connection, now: Now) -> Read {
        if self.whole {
            let octets = std::mem::take(&mut self.octets);
            self.hand_in(&octets, connection, now);
            return Read::Some;
        }
        BUFFER.with_borrow_mut(|buffer| {
            let kept = self.octets.len();
            let end = kept + READ_OCTETS;
            // It only grows, because to fill it with zeros for each read costs more than the read.
            if buffer.len() < end {
                buffer.resize(end, 0);
            }
            buffer[..kept].copy_from_slice(&self.octets);
            match stream.try_read(&mut buffer[kept..end]) {
                Ok(0) => Read::Closed,
                Ok(octets) => {
                    self.hand_in(&buffer[..kept + octets], connection, now);
                    Read::Some
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Read::Nothing,
                Err(_) => Read::Closed,
            }
        })
    }

    fn hand_in(&mut self, input: &[u8], connection: &mut Connection, now: Now) {
        let taken = connection.receive(input, now);
        self.octets = input[taken..].to_vec();
        self.whole = !self.octets.is_empty() && connection.reading() == Reading::Paused;
    }

    /// Whether the connection can go on without the socket, once it takes input again.
    pub(crate) const fn is_whole(&self) -> bool {
        self.whole
    }
}
