//! How a broker is set up.

use subtle::ConstantTimeEq as _;

/// A login.
#[derive(Clone)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password; never shown.
    pub password: String,
    /// Whether it may log in from loopback addresses only, as RabbitMQ's guest.
    pub loopback_only: bool,
}

impl User {
    /// Whether that is the password, in a time that does not tell how much of it is right.
    pub(super) fn has_password(&self, password: &[u8]) -> bool {
        self.password.as_bytes().ct_eq(password).into()
    }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .field("loopback_only", &self.loopback_only)
            .finish_non_exhaustive()
    }
}

/// Limits, logins and virtual hosts.
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
    /// How long a consumer may keep a delivery before its channel is closed; `None` is for ever.
    pub ack_timeout_millis: Option<u64>,
    /// The logins.
    pub users: Vec<User>,
    /// The virtual hosts.
    pub vhosts: Vec<Box<str>>,
}

/// RabbitMQ's defaults: guest on loopback, virtual host `/`, 128 MiB a message.
impl Default for Config {
    fn default() -> Self {
        let guest = User { name: "guest".into(), password: "guest".into(), loopback_only: true };
        Self {
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_seconds: 60,
            message_octets_max: Self::MESSAGE_OCTETS_MAX,
            memory_watermark_octets: u64::MAX,
            ack_timeout_millis: None,
            users: vec![guest],
            vhosts: vec!["/".into()],
        }
    }
}

impl Config {
    /// The largest message that can be configured, in octets of its body.
    pub const MESSAGE_OCTETS_MAX: u64 = 128 * 1024 * 1024;
}
