//! How a broker is set up.

use crate::definitions::Definitions;

/// Limits, and what is there from the start.
#[derive(Debug, Clone)]
pub struct Config {
    /// Channels open at a time on a connection.
    pub channel_max: u16,
    /// Octets of a frame.
    pub frame_max: u32,
    /// Seconds between signs of life that are suggested to clients.
    pub heartbeat_seconds: u16,
    /// Octets of a message's body; at most 128 MiB.
    pub message_octets_max: u64,
    /// Above this many octets of messages publishers are not read from.
    pub memory_watermark_octets: u64,
    /// Octets that are to stay free on the disk of the data folder.
    pub disk_free_limit_octets: u64,
    /// Above this many octets of messages those of long queues are put on disk; `None` without a
    /// disk. There is to be a [`super::Spiller`] and a [`super::Loader`] then.
    pub paging_octets: Option<u64>,
    /// How long a consumer may keep a delivery before its channel is closed; `None` is for ever.
    pub ack_timeout_millis: Option<u64>,
    /// Users, virtual hosts, and what is in them.
    pub definitions: Definitions,
}

/// RabbitMQ's defaults: guest on loopback, virtual host `/`, 128 MiB a message, 50 MB of disk.
impl Default for Config {
    fn default() -> Self {
        Self {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_seconds: 60,
            message_octets_max: Self::MESSAGE_OCTETS_MAX,
            memory_watermark_octets: u64::MAX,
            disk_free_limit_octets: 50_000_000,
            paging_octets: None,
            ack_timeout_millis: None,
            definitions: Definitions::rabbitmqs_defaults(),
        }
    }
}

impl Config {
    /// The largest message that can be configured, in octets of its body.
    pub const MESSAGE_OCTETS_MAX: u64 = 128 * 1024 * 1024;
}
