//! A connection with its channels, from the first octet to `connection.close-ok`.
//!
//! Splits what comes into frames and hands them to the channels, and lets producers write. Threads and
//! readiness are the worker's. Invariant: a batch that left in part is finished before anything else is sent.

use std::{io, ops::Range};

use leveret_wire::{
    Frame, FrameKind, Method, ProtocolHeader, decode_frame,
    method::{basic, channel, confirm, connection},
    write_heartbeat,
};

use super::{
    channel::{Channel, Role},
    fault::Fault,
    handshake::Handshake,
    link::{Came, Link},
    plan::Plan,
    producer::{Hold, Producer},
    scene::Scene,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Connecting,
    Greeting,
    Open,
    Closing,
    Closed,
}

pub(super) struct Connection {
    pub(super) link: Link,
    pub(super) state: State,
    pub(super) handshake: Handshake,
    pub(super) channels: Vec<Channel>,
    /// What is left of a batch: whose, and where in it.
    unsent: Option<(usize, Range<usize>)>,
    /// Whose turn it is to publish.
    turn: usize,
    is_blocked: bool,
    heard: bool,
    said: bool,
    silent_seconds: u32,
    quiet_seconds: u32,
}

impl Connection {
    pub(super) fn new(link: Link) -> Self {
        Self {
            link,
            state: State::Connecting,
            handshake: Handshake::default(),
            channels: Vec::new(),
            unsent: None,
            turn: 0,
            is_blocked: false,
            heard: false,
            said: false,
            silent_seconds: 0,
            quiet_seconds: 0,
        }
    }

    /// The socket can be written to; the first time that is because it is connected.
    pub(super) fn writable(&mut self) -> Result<(), Fault> {
        if self.state != State::Connecting {
            self.link.set_writable();
        } else if self.link.is_connected().map_err(|error| Fault::of_socket(&error))? {
            self.state = State::Greeting;
            self.link.out.extend_from_slice(&ProtocolHeader::SUPPORTED);
        }
        self.flush().map(drop)
    }

    /// One read and what follows from it; whether there may be more to read.
    pub(super) fn read(&mut self, buffer: &mut [u8], scene: &mut Scene) -> Result<bool, Fault> {
        let (octets, more) = match self.link.read(buffer) {
            Ok(Came::Full(octets)) => (octets, true),
            Ok(Came::All(octets)) => (octets, false),
            Ok(Came::Nothing) => return Ok(false),
            Ok(Came::Closed) => return self.hang_up(Fault::Lost("the broker closed the socket".to_owned())),
            Err(error) => return self.hang_up(Fault::of_socket(&error)),
        };
        scene.now = scene.clock.now();
        scene.counts.reads += 1;
        scene.counts.read_octets += octets as u64;
        self.heard = true;
        let taken = self.receive(&buffer[..octets], scene)?;
        self.link.keep(&buffer[taken..octets]);
        self.flush()?;
        Ok(more)
    }

    /// The end of the socket, which is no fault once the end was asked for.
    fn hang_up(&mut self, fault: Fault) -> Result<bool, Fault> {
        match self.state {
            State::Closing | State::Closed => {
                self.state = State::Closed;
                Ok(false)
            }
            _ => Err(fault),
        }
    }

    /// Takes the whole frames at the front; how many octets they are.
    fn receive(&mut self, octets: &[u8], scene: &mut Scene) -> Result<usize, Fault> {
        let payload_octets_max = super::handshake::FRAME_OCTETS_MAX;
        let mut taken = 0;
        while let Some((frame, size)) = decode_frame(&octets[taken..], payload_octets_max)? {
            taken += size;
            if frame.channel == 0 {
                self.receive_on_0(&frame, scene)?;
            } else if self.state == State::Open {
                let channel = self.channels.get_mut(usize::from(frame.channel) - 1);
                let channel = channel.ok_or_else(|| Fault::Nonsense("a frame of no channel".to_owned()))?;
                channel.receive(&frame, &mut self.link.out, scene)?;
            }
        }
        Ok(taken)
    }

    fn receive_on_0(&mut self, frame: &Frame<'_>, scene: &mut Scene) -> Result<(), Fault> {
        if frame.kind == FrameKind::Heartbeat {
            return Ok(());
        }
        let method = Method::decode(frame.payload)?;
        if self.state == State::Greeting {
            if self.handshake.answer(&scene.login, &method, &mut self.link.out)? {
                self.state = State::Open;
            }
            return Ok(());
        }
        match method {
            Method::ConnectionCloseOk(_) => self.state = State::Closed,
            Method::ConnectionClose(_) if self.state == State::Closing => self.state = State::Closed,
            Method::ConnectionClose(close) => return Err(Fault::closed_connection(&close)),
            Method::ConnectionBlocked(_) => {
                scene.counts.blocked += 1;
                self.is_blocked = true;
            }
            Method::ConnectionUnblocked(_) => self.is_blocked = false,
            other => return Err(Fault::Nonsense(other.name().to_owned())),
        }
        Ok(())
    }

    /// Adds a channel; what it needs is asked for at once.
    pub(super) fn open_channel(&mut self, role: Role, plan: &Plan, scene: &mut Scene) -> Result<(), Fault> {
        let number = self.next_channel()?;
        let out = &mut self.link.out;
        Method::from(channel::Open::default()).write_frame(number, out);
        scene.unanswered += 1;
        match &role {
            Role::Producer(_) if plan.producing.unconfirmed_max.is_some() => {
                Method::from(confirm::Select::default()).write_frame(number, out);
                scene.unanswered += 1;
            }
            Role::Producer(_) => {}
            Role::Consumer(consumer) => scene.unanswered += consumer.prepare(plan, number, out),
        }
        self.channels.push(Channel::new(number, role));
        Ok(())
    }

    /// The number that the next channel has.
    pub(super) fn next_channel(&self) -> Result<u16, Fault> {
        let channel_max = match self.handshake.tuning.channel_max {
            0 => u16::MAX,
            max => max,
        };
        let number = u16::try_from(self.channels.len() + 1).ok().filter(|number| *number <= channel_max);
        number.ok_or_else(|| {
            let text =
                format!("the broker allows {channel_max} channels on a connection: raise --connections");
            Fault::Unsuitable(text)
        })
    }

    /// Sends what is to be sent; whether all of it is gone.
    pub(super) fn flush(&mut self) -> Result<bool, Fault> {
        self.send().map_err(|error| Fault::of_socket(&error)).or_else(|fault| self.hang_up(fault))
    }

    fn send(&mut self) -> io::Result<bool> {
        if let Some((index, range)) = &mut self.unsent {
            let Role::Producer(producer) = &self.channels[*index].role else {
                unreachable!("only producers have batches")
            };
            range.start += self.link.write(producer.octets(range.clone()))?;
            if range.start < range.end {
                return Ok(false);
            }
            self.unsent = None;
            self.said = true;
        }
        self.said |= !self.link.out.is_empty();
        self.link.flush()
    }

    /// Lets each producer send a batch, as far as the socket takes it; why nobody goes on.
    pub(super) fn publish(&mut self, scene: &mut Scene) -> Result<Hold, Fault> {
        if !self.flush()? {
            return Ok(Hold::Socket);
        }
        let mut hold = Hold::Done;
        for _ in 0..self.channels.len() {
            self.turn = (self.turn + 1) % self.channels.len();
            match self.publish_in_turn(scene)? {
                Hold::Socket => return Ok(Hold::Socket),
                other => hold = hold.min(other),
            }
        }
        Ok(hold)
    }

    fn publish_in_turn(&mut self, scene: &mut Scene) -> Result<Hold, Fault> {
        let channel = &mut self.channels[self.turn];
        let Role::Producer(producer) = &mut channel.role else { return Ok(Hold::Done) };
        let now = scene.clock.now();
        match producer.allowance(now) {
            Err(hold) => {
                if producer.asks_for_end() {
                    // Answered when what came before it on the channel is taken.
                    Method::from(basic::Qos::default()).write_frame(channel.number, &mut self.link.out);
                    self.flush()?;
                }
                Ok(hold)
            }
            Ok(_) if self.is_blocked => Ok(Hold::Blocked),
            Ok(count) => {
                let range = producer.prepare(count, now);
                scene.counts.published += count as u64;
                self.unsent = Some((self.turn, range));
                Ok(if self.flush()? { Hold::None } else { Hold::Socket })
            }
        }
    }

    pub(super) fn producers(&mut self) -> impl Iterator<Item = &mut Producer> {
        self.channels.iter_mut().filter_map(|channel| match &mut channel.role {
            Role::Producer(producer) => Some(&mut **producer),
            Role::Consumer(_) => None,
        })
    }

    /// Says good-bye.
    pub(super) fn close(&mut self) -> Result<(), Fault> {
        if self.state != State::Open {
            self.state = State::Closed;
            return Ok(());
        }
        let close =
            connection::Close { reply_code: 200, reply_text: "bye".into(), ..connection::Close::default() };
        Method::from(close).write_frame(0, &mut self.link.out);
        self.state = State::Closing;
        self.flush().map(drop)
    }

    /// Once a second: a sign of life where nothing else was said, and whether the other side is alive.
    pub(super) fn pass_second(&mut self) -> Result<(), Fault> {
        let heartbeat_seconds = u32::from(self.handshake.tuning.heartbeat_seconds);
        self.silent_seconds = if std::mem::take(&mut self.heard) { 0 } else { self.silent_seconds + 1 };
        self.quiet_seconds = if std::mem::take(&mut self.said) { 0 } else { self.quiet_seconds + 1 };
        if heartbeat_seconds == 0 || self.state != State::Open {
            return Ok(());
        }
        if self.silent_seconds > 2 * heartbeat_seconds {
            return Err(Fault::Lost("no heartbeat from the broker".to_owned()));
        }
        if self.quiet_seconds >= heartbeat_seconds.div_ceil(2) && self.unsent.is_none() {
            write_heartbeat(&mut self.link.out);
            self.flush()?;
        }
        Ok(())
    }
}
