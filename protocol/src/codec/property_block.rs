//! The property block of 5.0 packets: reading, with all checks that hold for every packet, and
//! writing.
//!
//! # Source
//! MQTT 5.0 section 2.2.2.

pub(super) use super::property_value::{
    Property, id, put_binary, put_bool, put_string, put_subscription_id, put_u16, put_u32,
    put_user_properties, put_user_property, set,
};
use super::reader::Reader;
use super::{DecodeError, EncodeError, PacketType, ProtocolVersion};
use super::{SubscriptionIds, UserProperties, writer};

/// What has properties: a packet, a will, or a struct of nothing else.
pub(super) trait PropertyBlock<'a> {
    /// The properties that may appear, see [`set`].
    const ALLOWED: u64;

    /// Takes a property that may appear once.
    fn set(&mut self, property: Property<'a>);

    /// Takes the properties that may repeat.
    fn set_repeated(&mut self, repeated: Repeated<'a>);

    /// Appends all properties, without a length in front.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError>;

    /// Reads length and properties; before 5.0 there is neither.
    fn decode_block(
        &mut self,
        reader: &mut Reader<'a>,
        packet_type: PacketType,
        version: ProtocolVersion,
    ) -> Result<(), DecodeError> {
        if version == ProtocolVersion::V5 {
            let allowed = Self::ALLOWED;
            let repeated = read(reader, packet_type, allowed, |property| self.set(property))?;
            self.set_repeated(repeated);
        }
        Ok(())
    }

    /// Appends length and properties; before 5.0 there is neither.
    fn encode_block(&self, version: ProtocolVersion, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match version {
            ProtocolVersion::V5 => writer::put_with_length(out, |out| self.encode(out)),
            _ => Ok(()),
        }
    }
}

/// Implements [`PropertyBlock`] by a table: identifier, variant and field of each property that
/// may appear, in the order of writing. User properties may always, and are written last.
macro_rules! property_block {
    ($type:ident { $($id:ident, $variant:ident, $field:ident;)* }) => {
        impl<'a> $crate::codec::property_block::PropertyBlock<'a> for $type<'a> {
            const ALLOWED: u64 = {
                use $crate::codec::property_block::{id, set};
                set(&[id::USER, $(id::$id),*])
            };

            fn set(&mut self, property: $crate::codec::property_block::Property<'a>) {
                match property {
                    $($crate::codec::property_block::Property::$variant(value) => {
                        self.$field = Some(value);
                    })*
                    _ => {}
                }
            }

            fn set_repeated(&mut self, repeated: $crate::codec::property_block::Repeated<'a>) {
                self.user_properties = repeated.user_properties;
            }

            fn encode(&self, out: &mut Vec<u8>) -> Result<(), $crate::codec::EncodeError> {
                $(if let Some(value) = self.$field {
                    $crate::codec::property_block::Property::$variant(value).write(out)?;
                })*
                $crate::codec::property_block::put_user_properties(out, &self.user_properties)
            }
        }
    };
}
pub(super) use property_block;

/// The properties of a block that was checked before; ends early if it was not.
pub(super) struct Properties<'a> {
    reader: Reader<'a>,
}

impl<'a> Properties<'a> {
    pub(super) fn new(block: &'a [u8]) -> Self {
        Self {
            reader: Reader::new(block),
        }
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        let id = self.reader.u8().ok()?;
        Property::read(&mut self.reader, id).ok()
    }
}

/// The properties that may repeat, as the block has them.
#[derive(Default)]
pub(super) struct Repeated<'a> {
    pub(super) user_properties: UserProperties<'a>,
    pub(super) subscription_ids: SubscriptionIds<'a>,
}

/// Reads length and properties, and hands every property that may not repeat to `each`.
///
/// `allowed` is the set of properties of this packet, see [`set`].
fn read<'a>(
    reader: &mut Reader<'a>,
    packet_type: PacketType,
    allowed: u64,
    mut each: impl FnMut(Property<'a>),
) -> Result<Repeated<'a>, DecodeError> {
    let length = reader.varint()?;
    if length == 0 {
        return Ok(Repeated::default());
    }
    let block = reader.take(usize::try_from(length).unwrap_or(usize::MAX))?;
    let mut properties = Reader::new(block);
    let mut seen = 0;
    let mut user = Span::default();
    let mut ids = Span::default();
    while !properties.is_empty() {
        let start = block.len() - properties.bytes_left();
        let id = property_id(&mut properties)?;
        if allowed & set(&[id]) == 0 {
            return Err(DecodeError::PropertyNotAllowed {
                packet_type,
                property: id,
            });
        }
        let property = Property::read(&mut properties, id)?;
        let end = block.len() - properties.bytes_left();
        match property {
            Property::User(..) => user.extend(start, end),
            Property::SubscriptionId(_) if packet_type == PacketType::Publish => {
                ids.extend(start, end);
            }
            _ if seen & set(&[id]) != 0 => {
                return Err(DecodeError::PropertyDuplicate { property: id });
            }
            property => {
                seen |= set(&[id]);
                each(property);
            }
        }
    }
    let has = |id| seen & set(&[id]) != 0;
    if has(id::AUTHENTICATION_DATA) && !has(id::AUTHENTICATION_METHOD) {
        return Err(DecodeError::AuthenticationMethodMissing { packet_type });
    }
    Ok(Repeated {
        user_properties: UserProperties::from_wire(user.of(block)),
        subscription_ids: SubscriptionIds::from_wire(ids.of(block)),
    })
}

/// Identifiers are variable byte integers, all known ones of one byte.
fn property_id(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    let id = reader.varint()?;
    match u8::try_from(id) {
        Ok(known) if id::ALL & set(&[known]) != 0 => Ok(known),
        _ => Err(DecodeError::PropertyUnknown { property: id }),
    }
}

/// From the first property of a kind to the end of the last.
#[derive(Default)]
struct Span {
    start: usize,
    end: usize,
}

impl Span {
    fn extend(&mut self, start: usize, end: usize) {
        if self.end == 0 {
            self.start = start;
        }
        self.end = end;
    }

    fn of<'a>(&self, block: &'a [u8]) -> &'a [u8] {
        block.get(self.start..self.end).unwrap_or_default()
    }
}
