//! The content header of class basic and its properties (section 4.2.6.1).
//!
//! ```text
//!   0          2        4           12               14
//!   +----------+--------+-----------+----------------+------------- - -
//!   | class-id | weight | body size | property flags | property list...
//!   +----------+--------+-----------+----------------+------------- - -
//!     short      short    long long      short          remainder
//! ```

use crate::{DecodeError, ShortStr, Table, reader::Reader, writer::Writer};

/// Which properties are present; bit 15 is the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PropertyFlags(u16);

macro_rules! flags {
    ($($name:ident = $bit:literal),* $(,)?) => {
        impl PropertyFlags {
            $(#[doc = concat!("Bit ", $bit, ".")]
            pub const $name: Self = Self(1 << $bit);)*
        }
    };
}

flags! {
    CONTENT_TYPE = 15, CONTENT_ENCODING = 14, HEADERS = 13, DELIVERY_MODE = 12, PRIORITY = 11,
    CORRELATION_ID = 10, REPLY_TO = 9, EXPIRATION = 8, MESSAGE_ID = 7, TIMESTAMP = 6, KIND = 5,
    USER_ID = 4, APP_ID = 3, CLUSTER_ID = 2,
}

impl PropertyFlags {
    const fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }
}

/// The properties of class basic, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    /// MIME content type.
    pub content_type: Option<ShortStr<'a>>,
    /// MIME content encoding.
    pub content_encoding: Option<ShortStr<'a>>,
    /// Application headers, which headers exchanges and extensions look at.
    pub headers: Option<Table<'a>>,
    /// 1 transient, 2 persistent.
    pub delivery_mode: Option<u8>,
    /// Higher first, in a priority queue.
    pub priority: Option<u8>,
    /// For request and reply.
    pub correlation_id: Option<ShortStr<'a>>,
    /// For request and reply.
    pub reply_to: Option<ShortStr<'a>>,
    /// Time to live, a decimal string of milliseconds.
    pub expiration: Option<ShortStr<'a>>,
    /// The application's.
    pub message_id: Option<ShortStr<'a>>,
    /// Seconds since 1970.
    pub timestamp: Option<u64>,
    /// The property named `type`.
    pub kind: Option<ShortStr<'a>>,
    /// The publisher's login; the broker checks it.
    pub user_id: Option<ShortStr<'a>>,
    /// The application's.
    pub app_id: Option<ShortStr<'a>>,
    /// Deprecated, passed through.
    pub cluster_id: Option<ShortStr<'a>>,
}

impl<'a> Properties<'a> {
    /// Decodes flags and property list.
    ///
    /// Bits 0 and 1 of the flags are ignored, as RabbitMQ does. Bit 0 would announce further
    /// flags, which class basic has no use for; a list that has them does not fit.
    ///
    /// # Errors
    /// [`DecodeError`] when the list does not fit the flags.
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(octets);
        let properties = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(properties)
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let flags = PropertyFlags(reader.u16()?);
        if flags == PropertyFlags::default() {
            return Ok(Self::default());
        }
        macro_rules! property {
            ($flag:ident, $read:ident) => {
                if flags.has(PropertyFlags::$flag) { Some(reader.$read()?) } else { None }
            };
        }
        Ok(Self {
            content_type: property!(CONTENT_TYPE, short_str),
            content_encoding: property!(CONTENT_ENCODING, short_str),
            headers: property!(HEADERS, table),
            delivery_mode: property!(DELIVERY_MODE, u8),
            priority: property!(PRIORITY, u8),
            correlation_id: property!(CORRELATION_ID, short_str),
            reply_to: property!(REPLY_TO, short_str),
            expiration: property!(EXPIRATION, short_str),
            message_id: property!(MESSAGE_ID, short_str),
            timestamp: property!(TIMESTAMP, u64),
            kind: property!(KIND, short_str),
            user_id: property!(USER_ID, short_str),
            app_id: property!(APP_ID, short_str),
            cluster_id: property!(CLUSTER_ID, short_str),
        })
    }

    /// Appends flags and property list.
    pub fn encode(&self, out: &mut Vec<u8>) {
        Writer::new(out).octets(&self.flags().0.to_be_bytes());
        let mut writer = Writer::new(out);
        let short = |writer: &mut Writer<'_>, value: Option<ShortStr<'_>>| {
            if let Some(text) = value {
                writer.short_str(text);
            }
        };
        short(&mut writer, self.content_type);
        short(&mut writer, self.content_encoding);
        if let Some(headers) = self.headers {
            writer.table(headers);
        }
        if let Some(delivery_mode) = self.delivery_mode {
            writer.octets(&[delivery_mode]);
        }
        if let Some(priority) = self.priority {
            writer.octets(&[priority]);
        }
        short(&mut writer, self.correlation_id);
        short(&mut writer, self.reply_to);
        short(&mut writer, self.expiration);
        short(&mut writer, self.message_id);
        if let Some(seconds) = self.timestamp {
            writer.octets(&seconds.to_be_bytes());
        }
        short(&mut writer, self.kind);
        short(&mut writer, self.user_id);
        short(&mut writer, self.app_id);
        short(&mut writer, self.cluster_id);
    }

    fn flags(&self) -> PropertyFlags {
        let mut flags = 0;
        let mut mark = |present: bool, flag: PropertyFlags| flags |= if present { flag.0 } else { 0 };
        mark(self.content_type.is_some(), PropertyFlags::CONTENT_TYPE);
        mark(self.content_encoding.is_some(), PropertyFlags::CONTENT_ENCODING);
        mark(self.headers.is_some(), PropertyFlags::HEADERS);
        mark(self.delivery_mode.is_some(), PropertyFlags::DELIVERY_MODE);
        mark(self.priority.is_some(), PropertyFlags::PRIORITY);
        mark(self.correlation_id.is_some(), PropertyFlags::CORRELATION_ID);
        mark(self.reply_to.is_some(), PropertyFlags::REPLY_TO);
        mark(self.expiration.is_some(), PropertyFlags::EXPIRATION);
        mark(self.message_id.is_some(), PropertyFlags::MESSAGE_ID);
        mark(self.timestamp.is_some(), PropertyFlags::TIMESTAMP);
        mark(self.kind.is_some(), PropertyFlags::KIND);
        mark(self.user_id.is_some(), PropertyFlags::USER_ID);
        mark(self.app_id.is_some(), PropertyFlags::APP_ID);
        mark(self.cluster_id.is_some(), PropertyFlags::CLUSTER_ID);
        PropertyFlags(flags)
    }
}

/// A content header's payload, borrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class whose content this is; 60 is basic, the only one with content.
    pub class_id: u16,
    /// Octets of body that follow in body frames. Nothing may be reserved by it.
    pub body_octets: u64,
    /// Flags and property list, not yet decoded.
    pub property_octets: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Decodes the fixed part.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when it is shorter than its fixed part, and
    /// [`DecodeError::ContentWeight`] when its weight is not 0: RabbitMQ takes the first for an
    /// unknown frame and the second for a frame that is out of order.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        let class_id = reader.u16()?;
        let weight = reader.u16()?;
        let body_octets = reader.u64()?;
        if weight != 0 {
            return Err(DecodeError::ContentWeight(weight));
        }
        let property_octets = reader.octets(reader.remaining())?;
        Ok(Self { class_id, body_octets, property_octets })
    }

    /// Appends the payload of a header frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.class_id.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&self.body_octets.to_be_bytes());
        out.extend_from_slice(self.property_octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_properties_are_refused() {
        let check = |octets: &[u8], wanted| assert_eq!(Properties::decode(octets), Err(wanted), "{octets:?}");
        check(&[0], DecodeError::Truncated);
        check(&[0x10, 0], DecodeError::Truncated);
        check(&[0x10, 0, 2, 9], DecodeError::TrailingOctets(1));
        check(&[0, 0, 1], DecodeError::TrailingOctets(1));
        check(&[0x10, 1, 0, 0, 2], DecodeError::TrailingOctets(2));
    }

    #[test]
    fn the_weight_is_zero() {
        let mut octets = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0];
        let wanted = ContentHeader { class_id: 60, body_octets: 9, property_octets: &[0, 0] };
        assert_eq!(ContentHeader::decode(&octets), Ok(wanted));
        octets[3] = 1;
        assert_eq!(ContentHeader::decode(&octets), Err(DecodeError::ContentWeight(1)));
        assert_eq!(ContentHeader::decode(&octets[..11]), Err(DecodeError::Truncated));
    }

    #[test]
    fn flags_without_a_property_are_ignored() {
        let wanted = Properties { delivery_mode: Some(2), ..Properties::default() };
        for low_bits in 0..4 {
            assert_eq!(Properties::decode(&[0x10, low_bits, 2]), Ok(wanted));
            assert_eq!(Properties::decode(&[0, low_bits]), Ok(Properties::default()));
        }
    }
}
