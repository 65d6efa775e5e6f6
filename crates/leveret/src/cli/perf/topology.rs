//! Exchanges and queues that are there before the load and, if that is wanted, gone after it.
//!
//! Declared on a connection of their own that is closed before the load begins, many at a time.
//! Invariant: the answers are awaited before more than a bounded number of questions is out.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    time::{Duration, Instant},
};

use leveret_wire::{
    FrameKind, Method, ProtocolHeader, decode_frame,
    method::{channel, connection, exchange, queue},
};

use super::{
    fault::Fault,
    handshake::{FRAME_OCTETS_MAX, Handshake, Login},
    plan::{Exchange, Plan, Queues},
};

const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
const SILENCE_MAX: Duration = Duration::from_secs(60);
const INPUT_OCTETS: usize = 256 * 1024;
const CHANNEL: u16 = 1;
/// Questions that may wait for their answers.
const UNANSWERED_MAX: usize = 500;

/// How many of something, and how long they took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Took {
    pub(super) count: u64,
    pub(super) time: Duration,
}

/// A connection with one channel that waits for its answers.
pub(super) struct Declarer {
    stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) handshake: Handshake,
    input: Vec<u8>,
    start: usize,
    end: usize,
    out: Vec<u8>,
    unanswered: usize,
    /// The sum of the messages in the queues that were declared.
    ready: u64,
}

impl Declarer {
    /// Connects to the first of the URL's addresses that takes it, and logs in.
    pub(super) fn open(plan: &Plan) -> Result<Self, Fault> {
        let unreachable = |detail: String| Fault::Unreachable { address: plan.url.to_string(), detail };
        let addresses = plan.url.host_and_port().to_socket_addrs();
        let mut refused = unreachable("the name has no address".to_owned());
        for address in addresses.map_err(|error| unreachable(error.to_string()))? {
            match TcpStream::connect_timeout(&address, CONNECT_TIME_MAX) {
                Ok(stream) => return Self::over(stream, address, &plan.login),
                Err(error) => refused = unreachable(error.to_string()),
            }
        }
        Err(refused)
    }

    fn over(stream: TcpStream, address: SocketAddr, login: &Login) -> Result<Self, Fault> {
        let prepare = || {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(SILENCE_MAX))
        };
        prepare().map_err(|error| Fault::of_socket(&error))?;
        let mut declarer = Self {
            stream,
            address,
            handshake: Handshake::default(),
            input: vec![0; INPUT_OCTETS],
            start: 0,
            end: 0,
            out: ProtocolHeader::SUPPORTED.to_vec(),
            unanswered: 0,
            ready: 0,
        };
        declarer.log_in(login)?;
        declarer.ask(channel::Open::default())?;
        declarer.settle()?;
        Ok(declarer)
    }

    fn log_in(&mut self, login: &Login) -> Result<(), Fault> {
        loop {
            self.flush()?;
            let taken = self.next_method()?;
            let method = Method::decode(&self.input[taken])?;
            if self.handshake.answer(login, &method, &mut self.out)? {
                return Ok(());
            }
        }
    }

    pub(super) fn declare_exchange(&mut self, exchange: &Exchange) -> Result<(), Fault> {
        self.ask(exchange::Declare {
            exchange: exchange.name.as_str().into(),
            kind: exchange.kind.as_str().into(),
            passive: exchange.is_predeclared,
            auto_delete: exchange.auto_delete,
            ..exchange::Declare::default()
        })?;
        self.settle()
    }

    /// Declares the queues, then binds them. The messages that lie in them are counted.
    pub(super) fn declare_queues(&mut self, queues: &Queues) -> Result<(Took, Took, u64), Fault> {
        let began = Instant::now();
        for name in &queues.names {
            self.ask(queue::Declare {
                queue: name.as_str().into(),
                passive: queues.is_predeclared,
                durable: queues.durable,
                arguments: queues.arguments.as_table(),
                ..queue::Declare::default()
            })?;
        }
        self.settle()?;
        let declared = Took { count: queues.names.len() as u64, time: began.elapsed() };
        let began = Instant::now();
        for (queue, exchange, key) in queues.bindings() {
            self.ask(queue::Bind {
                queue: queue.into(),
                exchange: exchange.into(),
                routing_key: key.into(),
                ..queue::Bind::default()
            })?;
        }
        self.settle()?;
        let bound = Took { count: queues.bindings().count() as u64, time: began.elapsed() };
        Ok((declared, bound, self.ready))
    }

    pub(super) fn delete_queues(&mut self, queues: &Queues) -> Result<(), Fault> {
        for name in &queues.names {
            self.ask(queue::Delete { queue: name.as_str().into(), ..queue::Delete::default() })?;
        }
        self.settle()
    }

    /// Says good-bye; that the answer is missing harms nobody.
    pub(super) fn close(mut self) {
        let close =
            connection::Close { reply_code: 200, reply_text: "bye".into(), ..connection::Close::default() };
        Method::from(close).write_frame(0, &mut self.out);
        let _ = self.flush().and_then(|()| self.next_method());
    }

    fn ask<'m>(&mut self, method: impl Into<Method<'m>>) -> Result<(), Fault> {
        method.into().write_frame(CHANNEL, &mut self.out);
        self.unanswered += 1;
        if self.unanswered >= UNANSWERED_MAX { self.settle() } else { Ok(()) }
    }

    /// Sends what is to be sent and waits for every answer.
    fn settle(&mut self) -> Result<(), Fault> {
        self.flush()?;
        while self.unanswered > 0 {
            let taken = self.next_method()?;
            match Method::decode(&self.input[taken])? {
                Method::QueueDeclareOk(declared) => self.ready += u64::from(declared.message_count),
                Method::ConnectionClose(close) => return Err(Fault::closed_connection(&close)),
                Method::ChannelClose(close) => return Err(Fault::closed_channel(&close)),
                Method::ConnectionBlocked(_) | Method::ConnectionUnblocked(_) => continue,
                _ => {}
            }
            self.unanswered -= 1;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Fault> {
        self.stream.write_all(&self.out).map_err(|error| Fault::of_socket(&error))?;
        self.out.clear();
        Ok(())
    }

    /// Waits for a method; where its payload lies in the input.
    fn next_method(&mut self) -> Result<std::ops::Range<usize>, Fault> {
        loop {
            match decode_frame(&self.input[self.start..self.end], FRAME_OCTETS_MAX)? {
                Some((frame, octets)) => {
                    let payload_octets = frame.payload.len();
                    let is_method = frame.kind == FrameKind::Method;
                    let from = self.start + leveret_wire::FRAME_HEADER_OCTETS;
                    self.start += octets;
                    if is_method {
                        return Ok(from..from + payload_octets);
                    }
                }
                None => self.fill()?,
            }
        }
    }

    fn fill(&mut self) -> Result<(), Fault> {
        self.input.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        match self.stream.read(&mut self.input[self.end..]).map_err(|error| Fault::of_socket(&error))? {
            0 => Err(Fault::Lost("the broker closed the socket".to_owned())),
            octets => {
                self.end += octets;
                Ok(())
            }
        }
    }
}
