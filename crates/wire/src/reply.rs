//! Reply codes (section 1.2 of the specification's reference, and RabbitMQ's use of them).

use std::fmt;

use crate::ShortStr;

const ELLIPSIS: &str = "...";

/// Whether an error closes the channel or the whole connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// `channel.close`: the connection and its other channels go on.
    Channel,
    /// `connection.close`.
    Connection,
}

macro_rules! reply_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $text:literal, $scope:ident;)*) => {
        /// A reply code.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ReplyCode { $($(#[$doc])* $name = $code),* }

        impl ReplyCode {
            /// Every reply code.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The name that begins the reply text.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// What an error with this code closes. Success and the codes of `basic.return`
            /// close nothing when they are used as such; as errors they are the channel's.
            #[must_use]
            pub const fn scope(self) -> Scope {
                match self { $(Self::$name => Scope::$scope),* }
            }
        }
    };
}

reply_codes! {
    /// All went well.
    Success = 200, "OK", Connection;
    /// A content larger than what the server takes.
    ContentTooLarge = 311, "CONTENT_TOO_LARGE", Channel;
    /// A mandatory message that no queue wanted.
    NoRoute = 312, "NO_ROUTE", Channel;
    /// An immediate message that no consumer could take.
    NoConsumers = 313, "NO_CONSUMERS", Channel;
    /// An operator closed the connection, or the server stops.
    ConnectionForced = 320, "CONNECTION_FORCED", Connection;
    /// The virtual host's name is malformed.
    InvalidPath = 402, "INVALID_PATH", Connection;
    /// No permission, a failed login, or an exclusive consumer in the way.
    AccessRefused = 403, "ACCESS_REFUSED", Channel;
    /// No such queue or exchange.
    NotFound = 404, "NOT_FOUND", Channel;
    /// Somebody else's exclusive queue.
    ResourceLocked = 405, "RESOURCE_LOCKED", Channel;
    /// What was asked does not fit what is there.
    PreconditionFailed = 406, "PRECONDITION_FAILED", Channel;
    /// A frame that cannot be decoded.
    FrameError = 501, "FRAME_ERROR", Connection;
    /// An argument that no method may carry.
    SyntaxError = 502, "SYNTAX_ERROR", Connection;
    /// A method that is not expected, or not understood.
    CommandInvalid = 503, "COMMAND_INVALID", Connection;
    /// A method on a channel that is not open, or is open already.
    ChannelError = 504, "CHANNEL_ERROR", Connection;
    /// A frame that does not belong here.
    UnexpectedFrame = 505, "UNEXPECTED_FRAME", Connection;
    /// The server ran out of something.
    ResourceError = 506, "RESOURCE_ERROR", Connection;
    /// The user may not do this at all.
    NotAllowed = 530, "NOT_ALLOWED", Connection;
    /// The server does not do this.
    NotImplemented = 540, "NOT_IMPLEMENTED", Connection;
    /// The server's own fault, or content that it cannot decode.
    InternalError = 541, "INTERNAL_ERROR", Connection;
}

impl ReplyCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u16 {
        self as u16
    }

    /// The reply text as RabbitMQ writes it, `NOT_FOUND - no queue 'q' in vhost '/'`.
    ///
    /// One of more than 255 octets ends in an ellipsis. It is cut on a character's boundary, where
    /// RabbitMQ may cut a character in two, because some clients insist on UTF-8.
    #[must_use]
    pub fn reply_text(self, explanation: &str) -> String {
        let mut text = format!("{} - {explanation}", self.name());
        if text.len() > ShortStr::OCTETS_MAX {
            text.truncate(text.floor_char_boundary(ShortStr::OCTETS_MAX - ELLIPSIS.len()));
            text.push_str(ELLIPSIS);
        }
        text
    }
}

impl fmt::Display for ReplyCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.name())
    }
}

/// The longest prefix of `text` that a reply can carry.
#[must_use]
pub fn truncate_reply_text(text: &str) -> &str {
    &text[..text.floor_char_boundary(ShortStr::OCTETS_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_end_in_an_ellipsis_behind_a_whole_character() {
        let check = |explanation: &str, wanted: String| {
            assert_eq!(ReplyCode::NotFound.reply_text(explanation), wanted);
        };
        check(&"a".repeat(243), format!("NOT_FOUND - {}", "a".repeat(243)));
        check(&"a".repeat(244), format!("NOT_FOUND - {}...", "a".repeat(240)));
        check(&"é".repeat(200), format!("NOT_FOUND - {}...", "é".repeat(120)));
        check(&format!("a{}", "é".repeat(200)), format!("NOT_FOUND - a{}...", "é".repeat(119)));
    }

    #[test]
    fn scopes_follow_the_classes_of_codes() {
        for code in ReplyCode::ALL {
            let channel = matches!(code.code(), 311..=313 | 403..=406);
            assert_eq!(code.scope() == Scope::Channel, channel, "{code}");
        }
    }
}
