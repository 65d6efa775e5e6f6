//! The macro that turns the tables of classes and methods into types, decoder and encoder.

macro_rules! methods {
    ($(
        $(#[$class_doc:meta])*
        $class:ident = $class_id:literal {
            $(
                $(#[$doc:meta])*
                $method_id:literal $variant:ident => $name:ident $(<$lifetime:lifetime>)? { $($field:ident : $type:ty),* $(,)? }
            )*
        }
    )*) => {
        $(
            $(#[$class_doc])*
            pub mod $class {
                #[allow(unused_imports)]
                use super::{
                    Field, LongStr, ReservedBit, ReservedLongStr, ReservedShort,
                    ReservedShortStr, ShortStr, Table, Writer,
                };

                /// The class id.
                pub const CLASS_ID: u16 = $class_id;

                $(
                    $(#[$doc])*
                    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
                    #[allow(missing_docs)]
                    pub struct $name $(<$lifetime>)? { $(pub $field: $type),* }

                    impl $(<$lifetime>)? $name $(<$lifetime>)? {
                        /// The method id within the class.
                        pub const METHOD_ID: u16 = $method_id;

                        #[inline]
                        #[allow(unused_variables)]
                        pub(super) fn write(&self, writer: &mut Writer<'_>) {
                            $(self.$field.write(writer);)*
                        }

                        #[inline]
                        pub(super) fn is_text(&self) -> bool {
                            $(self.$field.is_text() &&)* true
                        }
                    }
                )*
            }
        )*

        /// A method of any class.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Method<'a> {
            $($($variant($class::$name $(<$lifetime>)?),)*)*
        }

        impl<'a> Method<'a> {
            /// Class and method id of every method.
            pub const IDS: &'static [(u16, u16)] = &[$($(($class_id, $method_id),)*)*];

            /// Decodes the payload of a method frame.
            ///
            /// # Errors
            /// [`DecodeError`] when the method is unknown or its fields do not fill the payload.
            #[inline]
            pub fn decode(payload: &'a [u8]) -> Result<Self, DecodeError> {
                let mut reader = Reader::new(payload);
                let class_id = reader.u16()?;
                let method_id = reader.u16()?;
                let method = match (class_id, method_id) {
                    $($(($class_id, $method_id) => Self::$variant($class::$name { $($field: Field::read(&mut reader)?),* }),)*)*
                    _ => return Err(DecodeError::UnknownMethod { class_id, method_id }),
                };
                reader.finish()?;
                Ok(method)
            }

            /// Appends ids and fields.
            pub fn encode(&self, out: &mut Vec<u8>) {
                let (class_id, method_id) = self.ids();
                let mut writer = Writer::new(out);
                writer.octets(&class_id.to_be_bytes());
                writer.octets(&method_id.to_be_bytes());
                match self {
                    $($(Self::$variant(method) => method.write(&mut writer),)*)*
                }
            }

            /// Whether every short string among the fields is UTF-8.
            #[must_use]
            #[inline]
            pub fn is_text(&self) -> bool {
                match self {
                    $($(Self::$variant(method) => method.is_text(),)*)*
                }
            }

            /// Class and method id.
            #[must_use]
            pub const fn ids(&self) -> (u16, u16) {
                match self {
                    $($(Self::$variant(_) => ($class_id, $method_id),)*)*
                }
            }

            /// The name as the specification writes it, such as `Basic.Publish` without the dot.
            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $($(Self::$variant(_) => stringify!($variant),)*)*
                }
            }
        }

        $($(
            impl<'a> From<$class::$name $(<$lifetime>)?> for Method<'a> {
                fn from(method: $class::$name $(<$lifetime>)?) -> Self {
                    Self::$variant(method)
                }
            }
        )*)*
    };
}
