//! A connection and its channels as a state machine of the protocol.
//!
//! Turns octets into calls, checks what the protocol itself says about their order, assembles
//! contents, and writes the answers that need nobody else. Knows nothing of routing, queues or
//! storage: what a channel is used for rides along as `D`, and a delivery as `T`.
//! Invariant: after a failure of the connection nothing of the peer's is carried out.

mod channel;
mod confirms;
mod content;
mod faults;
mod handshake;
mod unacked;

use std::{borrow::Cow, collections::BTreeMap};

use leveret_wire::{
    Frame, FrameKind, Method, PublishFields, ReplyCode, Scope, ShortStr, decode_frame,
    method::{channel as channel_method, connection},
};

use self::faults::{decode_method, expected_method_frame, frame_failure, unexpected_frame, unknown_frame};

pub use self::{
    channel::{Channel, ChannelMode},
    confirms::{Confirm, Confirms},
    content::{Content, Publish},
    handshake::{ClientCapabilities, Offer, Tuned},
    unacked::{Unacked, UnknownDeliveryTag},
};
use crate::Refusal;

/// Octets of payload taken in one frame before limits are negotiated.
const HANDSHAKE_PAYLOAD_OCTETS_MAX: u32 = 16 * 1024;

/// Octets of a content header before its properties.
const CONTENT_HEADER_OCTETS_MIN: usize = 12;

/// Class and method that an error names; 0/0 when it is about none.
pub type MethodIds = (u16, u16);

/// What a peer asks for, once the protocol has nothing against it.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants say what their fields are")]
pub enum Call<'i> {
    /// Credentials to check.
    Login { mechanism: ShortStr<'i>, response: &'i [u8] },
    /// A virtual host to open.
    Open { virtual_host: ShortStr<'i> },
    /// A message.
    Publish(Publish<'i>),
    /// A message whose frames came apart.
    PublishAssembled(Box<Content>),
    /// New credentials to check.
    UpdateSecret { secret: &'i [u8] },
    /// The channel is there now.
    ChannelOpened { channel: u16 },
    /// The channel is to go; `channel.close-ok` answers.
    ChannelClose { channel: u16 },
    /// The connection is to go; `connection.close-ok` answers.
    ConnectionClose,
    /// The peer confirmed our close.
    ConnectionClosed,
    /// Any other method on an open channel.
    Method { channel: u16, method: Method<'i> },
}

/// Why a session cannot go on as it is.
#[derive(Debug)]
#[allow(missing_docs, reason = "the variants say what their fields are")]
pub enum Failure {
    /// A channel or the connection is closed with this refusal, as its code says.
    Refused { channel: u16, ids: MethodIds, refusal: Refusal },
    /// Nothing is said; after a while the socket is closed.
    SilentThenDrop(&'static str),
    /// The socket is closed at once.
    Drop(Cow<'static, str>),
}

impl Failure {
    fn refused(channel: u16, ids: MethodIds, refusal: Refusal) -> Self {
        Self::Refused { channel, ids, refusal }
    }
}

/// Where the connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The first eight octets are awaited.
    ProtocolHeader,
    /// `connection.start` is out.
    StartOk,
    /// Credentials are being checked.
    Login,
    /// `connection.tune` is out.
    TuneOk,
    /// Limits are agreed.
    Open,
    /// The virtual host is being looked up.
    Opening,
    /// Channels may be opened.
    Running,
    /// We sent `connection.close` and await its confirmation.
    Closing,
    /// Nothing is taken any more.
    Ended,
}

/// A connection's side of the protocol.
#[derive(Debug)]
pub struct Session<D, T> {
    phase: Phase,
    offer: Offer,
    tuned: Tuned,
    capabilities: ClientCapabilities,
    channels: BTreeMap<u16, Channel<D, T>>,
    message_octets_max: u64,
    assembling_octets: u64,
}

impl<D: Default, T> Session<D, T> {
    /// A session that awaits the protocol header.
    #[must_use]
    pub fn new(offer: Offer, message_octets_max: u64) -> Self {
        Self {
            phase: Phase::ProtocolHeader,
            tuned: Tuned::from(&offer),
            offer,
            capabilities: ClientCapabilities::default(),
            channels: BTreeMap::new(),
            message_octets_max,
            assembling_octets: 0,
        }
    }

    /// Where the connection stands.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The limits in force.
    #[must_use]
    pub const fn tuned(&self) -> &Tuned {
        &self.tuned
    }

    /// What the client said it can do.
    #[must_use]
    pub const fn capabilities(&self) -> &ClientCapabilities {
        &self.capabilities
    }

    /// The open channel of that number.
    #[inline]
    pub fn channel(&mut self, id: u16) -> Option<&mut Channel<D, T>> {
        self.channels.get_mut(&id).filter(|channel| channel.is_open())
    }

    /// The channels, closing ones among them.
    pub fn channels(&mut self) -> impl Iterator<Item = (u16, &mut Channel<D, T>)> {
        self.channels.iter_mut().map(|(id, channel)| (*id, channel))
    }

    /// Octets of contents that are under way.
    #[must_use]
    pub const fn assembling_octets(&self) -> u64 {
        self.assembling_octets
    }

    /// Takes all channels away, when the connection goes.
    pub fn take_channels(&mut self) -> BTreeMap<u16, Channel<D, T>> {
        self.assembling_octets = 0;
        std::mem::take(&mut self.channels)
    }

    /// Decodes the next thing the peer says.
    ///
    /// Returns how many octets of the input it took and the call, if the engine has to do
    /// something; `None` when the input ends before that.
    ///
    /// # Errors
    /// [`Failure`], after which the octets that caused it must not be given again.
    #[inline]
    pub fn next<'i>(
        &mut self,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(usize, Option<Call<'i>>)>, Failure> {
        if self.phase == Phase::ProtocolHeader {
            return self.protocol_header(input, out);
        }
        let decoded = decode_frame(input, self.payload_octets_max());
        let Some((frame, taken)) = decoded.map_err(|error| frame_failure(&error, input))? else {
            return Ok(None);
        };
        if self.phase == Phase::Running {
            return self.running_frame(frame, taken, input, out).map(Some);
        }
        let call = match self.phase {
            Phase::Closing => self.closing_frame(frame),
            Phase::Ended => None,
            _ => self.handshake_frame(frame)?,
        };
        Ok(Some((taken, call)))
    }

    fn payload_octets_max(&self) -> u32 {
        match self.phase {
            Phase::Running | Phase::Closing | Phase::Ended => self.tuned.frame_max,
            _ => HANDSHAKE_PAYLOAD_OCTETS_MAX,
        }
    }

    fn running_frame<'i>(
        &mut self,
        frame: Frame<'i>,
        taken: usize,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Option<Call<'i>>), Failure> {
        match (frame.kind, frame.channel) {
            (FrameKind::Method, 1..) => self.channel_frame(frame, taken, input, out),
            (FrameKind::Heartbeat, _) if !frame.payload.is_empty() => Err(unknown_frame(frame)),
            (FrameKind::Header, _) if frame.payload.len() < CONTENT_HEADER_OCTETS_MIN => {
                Err(unknown_frame(frame))
            }
            (FrameKind::Heartbeat, 0) => Ok((taken, None)),
            (FrameKind::Method, 0) => Ok((taken, self.connection_method(decode_method(frame)?)?)),
            (FrameKind::Heartbeat, _) | (_, 0) => Err(unexpected_frame(frame)),
            (_, _) => self.channel_frame(frame, taken, input, out),
        }
    }

    fn connection_method<'i>(&mut self, method: Method<'i>) -> Result<Option<Call<'i>>, Failure> {
        match method {
            Method::ConnectionClose(_) => {
                self.phase = Phase::Ended;
                Ok(Some(Call::ConnectionClose))
            }
            Method::ConnectionUpdateSecret(update) => {
                Ok(Some(Call::UpdateSecret { secret: update.new_secret.0 }))
            }
            _ => Err(Failure::refused(0, method.ids(), Refusal::UnexpectedMethod)),
        }
    }

    fn channel_frame<'i>(
        &mut self,
        frame: Frame<'i>,
        taken: usize,
        input: &'i [u8],
        out: &mut Vec<u8>,
    ) -> Result<(usize, Option<Call<'i>>), Failure> {
        let id = frame.channel;
        match self.channels.get_mut(&id) {
            Some(channel) if channel.is_open() => match frame.kind {
                FrameKind::Method => {
                    // Most methods are this one, so it is looked for before all others.
                    let publish = PublishFields::decode(frame.payload).filter(|_| !channel.awaits_content());
                    if let Some(publish) = publish {
                        let (more, call) =
                            channel.publish(id, publish, &input[taken..], self.tuned.frame_max);
                        return Ok((taken + more, call));
                    }
                    self.channel_method(id, decode_method(frame)?).map(|call| (taken, call))
                }
                _ => {
                    self.assembling_octets -= channel.assembling_octets();
                    let call = channel.content_frame(id, frame, self.message_octets_max)?;
                    self.assembling_octets += channel.assembling_octets();
                    Ok((taken, call))
                }
            },
            Some(_) => self.closing_channel_frame(frame, out).map(|()| (taken, None)),
            None => self.absent_channel_frame(frame).map(|call| (taken, Some(call))),
        }
    }

    fn channel_method<'i>(&mut self, id: u16, method: Method<'i>) -> Result<Option<Call<'i>>, Failure> {
        let channel = self.channels.get_mut(&id).expect("the caller found it");
        if let Some(refusal) = channel.refuses_method() {
            return Err(Failure::refused(id, channel.content_ids(), refusal));
        }
        let refused = |refusal| Err(Failure::refused(id, method.ids(), refusal));
        match method {
            Method::ChannelOpen(_) => refused(Refusal::ChannelOpenedTwice),
            Method::ChannelClose(_) => Ok(Some(Call::ChannelClose { channel: id })),
            _ if method.ids().0 == connection::CLASS_ID => refused(Refusal::UnimplementedMethod),
            _ => Ok(Some(Call::Method { channel: id, method })),
        }
    }

    /// After our `channel.close` everything is ignored until it is confirmed.
    fn closing_channel_frame(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<(), Failure> {
        if frame.kind != FrameKind::Method {
            return Ok(());
        }
        let method = decode_method(frame)?;
        match method {
            Method::ChannelCloseOk(_) => drop(self.channels.remove(&frame.channel)),
            Method::ChannelClose(_) => {
                Method::from(channel_method::CloseOk {}).write_frame(frame.channel, out);
            }
            Method::ChannelOpen(_) => {
                return Err(Failure::refused(frame.channel, method.ids(), Refusal::ChannelOpenedTwice));
            }
            _ => {}
        }
        Ok(())
    }

    fn absent_channel_frame<'i>(&mut self, frame: Frame<'i>) -> Result<Call<'i>, Failure> {
        let id = frame.channel;
        if frame.kind != FrameKind::Method {
            return Err(Failure::refused(0, (0, 0), expected_method_frame()));
        }
        let method = decode_method(frame)?;
        let Method::ChannelOpen(_) = method else {
            return Err(Failure::refused(id, method.ids(), Refusal::ChannelNotOpen));
        };
        let (open, channel_max) = (self.channels.len(), self.tuned.channel_max);
        if open >= usize::from(channel_max) {
            return Err(Failure::refused(0, (0, 0), Refusal::TooManyChannels { open, channel_max }));
        }
        self.channels.insert(id, Channel::default());
        Ok(Call::ChannelOpened { channel: id })
    }

    fn closing_frame(&mut self, frame: Frame<'_>) -> Option<Call<'static>> {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return None;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionCloseOk(_)) => {
                self.phase = Phase::Ended;
                Some(Call::ConnectionClosed)
            }
            Ok(Method::ConnectionClose(_)) => {
                self.phase = Phase::Ended;
                Some(Call::ConnectionClose)
            }
            _ => None,
        }
    }

    /// Answers a failed call: closes the channel or, when the code says so, the connection.
    /// Returns what is to be torn down.
    pub fn refuse(
        &mut self,
        channel: u16,
        ids: MethodIds,
        refusal: &Refusal,
        out: &mut Vec<u8>,
    ) -> Refused<D, T> {
        let text = refusal.reply_text();
        let code = refusal.code();
        match code.scope() {
            Scope::Channel if channel != 0 && self.channels.contains_key(&channel) => {
                Method::from(channel_method::Close {
                    reply_code: code.code(),
                    reply_text: text.as_str().into(),
                    class_id: ids.0,
                    method_id: ids.1,
                })
                .write_frame(channel, out);
                let refused = self.remove_channel(channel);
                self.channels.insert(channel, Channel::closing());
                Refused::Channel(refused.map(Box::new))
            }
            _ => {
                self.write_connection_close(code, &text, ids, out);
                Refused::Connection
            }
        }
    }

    /// Closes the connection from our side.
    pub fn write_connection_close(&mut self, code: ReplyCode, text: &str, ids: MethodIds, out: &mut Vec<u8>) {
        Method::from(connection::Close {
            reply_code: code.code(),
            reply_text: text.into(),
            class_id: ids.0,
            method_id: ids.1,
        })
        .write_frame(0, out);
        self.phase = Phase::Closing;
    }

    /// Takes an open channel away, when the peer closes it.
    pub fn remove_channel(&mut self, id: u16) -> Option<Channel<D, T>> {
        let channel = self.channels.remove(&id)?;
        self.assembling_octets -= channel.assembling_octets();
        Some(channel)
    }

    /// Takes nothing any more.
    pub const fn end(&mut self) {
        self.phase = Phase::Ended;
    }
}

/// What a refusal ended.
#[derive(Debug)]
pub enum Refused<D, T> {
    /// The channel, as it was.
    Channel(Option<Box<Channel<D, T>>>),
    /// The connection with all its channels.
    Connection,
}
