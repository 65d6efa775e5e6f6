//! A channel's side of the protocol: open or closing, its mode, its content under way.

use leveret_wire::{Frame, FrameKind, PublishFields, method::basic};

use super::{
    Call, Failure, MethodIds,
    confirms::Confirms,
    content::{Assembly, Publish},
    unacked::Unacked,
};
use crate::Refusal;

/// How publishes and acknowledgements of a channel are answered.
#[derive(Debug, Default)]
pub enum ChannelMode {
    /// Not at all.
    #[default]
    Plain,
    /// Publishes are confirmed (`confirm.select`).
    Confirm(Confirms),
    /// They are held back until a commit (`tx.select`).
    Transaction,
}

/// A channel. `D` is what the engine keeps with it, `T` a delivery.
#[derive(Debug)]
pub struct Channel<D, T> {
    open: bool,
    assembly: Assembly,
    /// How publishes are answered.
    pub mode: ChannelMode,
    /// Deliveries that await their acknowledgement.
    pub unacked: Unacked<T>,
    /// The engine's.
    pub data: D,
}

impl<D: Default, T> Default for Channel<D, T> {
    fn default() -> Self {
        Self {
            open: true,
            assembly: Assembly::Idle,
            mode: ChannelMode::Plain,
            unacked: Unacked::default(),
            data: D::default(),
        }
    }
}

impl<D: Default, T> Channel<D, T> {
    /// A channel that we closed and whose close is not confirmed yet.
    pub(super) fn closing() -> Self {
        Self { open: false, ..Self::default() }
    }

    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    pub(super) fn assembling_octets(&self) -> u64 {
        self.assembly.octets()
    }

    pub(super) const fn awaits_content(&self) -> bool {
        !matches!(self.assembly, Assembly::Idle)
    }

    /// The method whose content is under way.
    pub(super) const fn content_ids(&self) -> MethodIds {
        (basic::CLASS_ID, basic::Publish::METHOD_ID)
    }

    /// Why a method may not come now.
    pub(super) fn refuses_method(&self) -> Option<Refusal> {
        self.assembly.refuses(FrameKind::Method)
    }

    /// Takes a publish with its content, if all of it is in the input, and else begins to
    /// assemble it. Returns how many more octets were taken.
    #[inline]
    pub(super) fn publish<'i>(
        &mut self,
        id: u16,
        publish: PublishFields<'i>,
        input: &'i [u8],
        frame_max: u32,
    ) -> (usize, Option<Call<'i>>) {
        if let Some((publish, taken)) = Publish::whole(id, publish, input, frame_max) {
            return (taken, Some(Call::Publish(publish)));
        }
        self.assembly = Assembly::begin(publish);
        (0, None)
    }

    pub(super) fn content_frame(
        &mut self,
        id: u16,
        frame: Frame<'_>,
        message_octets_max: u64,
    ) -> Result<Option<Call<'static>>, Failure> {
        let ids = self.assembly.ids();
        self.assembly.frame(id, frame, message_octets_max).map_err(|refusal| {
            self.assembly = Assembly::Idle;
            Failure::Refused { channel: id, ids, refusal }
        })
    }
}
