//! Values as bytes hold them (AMQP 1.0 part 1). Nothing is copied, and what is nested is not looked
//! at before somebody asks: bytes that lie cost what they are long.

use crate::Failure;

/// A value; integers of all widths are one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Value<'a> {
    #[default]
    Null,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f32),
    Double(f64),
    Char(char),
    /// Milliseconds since 1970.
    Timestamp(i64),
    Uuid([u8; 16]),
    Binary(&'a [u8]),
    String(&'a str),
    Symbol(&'a str),
    /// A list or an array.
    List(Items<'a>),
    /// Keys and values in turn.
    Map(Items<'a>),
    /// A descriptor, if it is a number, and the bytes of the value that it describes.
    Described(Option<u64>, &'a [u8]),
    /// A decimal number.
    Decimal,
}

/// Bytes that are no value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

impl From<Malformed> for Failure {
    fn from(Malformed(what): Malformed) -> Self {
        Self::retry(format!("the server broke the protocol: {what}"))
    }
}

impl From<Malformed> for String {
    fn from(Malformed(what): Malformed) -> Self {
        what.to_owned()
    }
}

/// Values one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Items<'a> {
    bytes: &'a [u8],
    left: usize,
    /// What all items of an array are.
    constructor: Option<u8>,
}

impl<'a> Items<'a> {
    /// So many items in these bytes, none of which is shorter than one: in an array those that
    /// have no bytes at all are not taken.
    fn of(bytes: &'a [u8], left: usize, constructor: Option<u8>) -> Result<Self, Malformed> {
        let items = Self {
            bytes,
            left,
            constructor,
        };
        match left <= bytes.len() {
            true => Ok(items),
            false => Err(Malformed("more items than bytes")),
        }
    }

    /// The next value, until there are no more.
    pub(super) fn next(&mut self) -> Result<Option<Value<'a>>, Malformed> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        match self.constructor {
            Some(code) => data(code, &mut self.bytes).map(Some),
            None => take(&mut self.bytes).map(Some),
        }
    }

    /// The next field of a composite value; fields at its end may be left out.
    pub(super) fn field(&mut self) -> Result<Value<'a>, Malformed> {
        Ok(self.next()?.unwrap_or(Value::Null))
    }

    /// Passes fields.
    pub(super) fn pass(&mut self, count: usize) -> Result<(), Malformed> {
        (0..count).try_for_each(|_| self.field().map(drop))
    }
}

impl<'a> Value<'a> {
    pub(super) fn number(self) -> Option<u32> {
        match self {
            Self::Unsigned(number) => u32::try_from(number).ok(),
            _ => None,
        }
    }

    pub(super) fn is_true(self) -> bool {
        self == Self::Bool(true)
    }

    pub(super) fn text(self) -> Option<&'a str> {
        match self {
            Self::String(text) | Self::Symbol(text) => Some(text),
            _ => None,
        }
    }

    /// The fields of a composite value of this kind.
    pub(super) fn composite(self, descriptor: u64) -> Result<Option<Items<'a>>, Malformed> {
        match self {
            Self::Described(Some(code), list) if code == descriptor => fields(list).map(Some),
            _ => Ok(None),
        }
    }
}

/// The fields of the composite value that is described.
pub(super) fn fields(mut list: &[u8]) -> Result<Items<'_>, Malformed> {
    match take(&mut list)? {
        Value::List(fields) => Ok(fields),
        _ => Err(Malformed("a composite value that is no list")),
    }
}

/// Takes a value off the bytes.
///
/// # Errors
/// They begin with no whole value.
pub(super) fn take<'a>(bytes: &mut &'a [u8]) -> Result<Value<'a>, Malformed> {
    let code = byte(bytes)?;
    if code != DESCRIBED {
        return data(code, bytes);
    }
    let descriptor = match descriptor(bytes)? {
        Value::Unsigned(number) => Some(number),
        _ => None,
    };
    let whole = *bytes;
    pass(bytes)?;
    let described = whole.get(..whole.len() - bytes.len()).unwrap_or_default();
    Ok(Value::Described(descriptor, described))
}

fn descriptor<'a>(bytes: &mut &'a [u8]) -> Result<Value<'a>, Malformed> {
    match byte(bytes)? {
        DESCRIBED => Err(Malformed("a descriptor that is described")),
        code => data(code, bytes),
    }
}

/// Passes a value.
fn pass(bytes: &mut &[u8]) -> Result<(), Malformed> {
    loop {
        match byte(bytes)? {
            DESCRIBED => drop(descriptor(bytes)?),
            code => return data_bytes(code, bytes).map(drop),
        }
    }
}

fn byte(bytes: &mut &[u8]) -> Result<u8, Malformed> {
    let (first, rest) = bytes.split_first().ok_or(SHORT)?;
    *bytes = rest;
    Ok(*first)
}

fn some<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], Malformed> {
    let (first, rest) = bytes.split_at_checked(count).ok_or(SHORT)?;
    *bytes = rest;
    Ok(first)
}

fn number(bytes: &mut &[u8], width: usize) -> Result<usize, Malformed> {
    let number = unsigned(some(bytes, width)?);
    usize::try_from(number).map_err(|_| SHORT)
}

/// The data that a constructor announces (section 1.2), without its size.
fn data_bytes<'a>(code: u8, bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let count = match code >> 4 {
        0x4 => 0,
        0x5 => 1,
        0x6 => 2,
        0x7 => 4,
        0x8 => 8,
        0x9 => 16,
        0xa | 0xc | 0xe => number(bytes, 1)?,
        0xb | 0xd | 0xf => number(bytes, 4)?,
        _ => return Err(UNKNOWN),
    };
    some(bytes, count)
}

fn data<'a>(code: u8, bytes: &mut &'a [u8]) -> Result<Value<'a>, Malformed> {
    let data = data_bytes(code, bytes)?;
    Ok(match code {
        0x40 => Value::Null,
        0x41 => Value::Bool(true),
        0x42 => Value::Bool(false),
        0x43 | 0x44 => Value::Unsigned(0),
        0x45 => Value::List(Items::default()),
        0x56 => Value::Bool(data != [0]),
        0x50 | 0x52 | 0x53 | 0x60 | 0x70 | 0x80 => Value::Unsigned(unsigned(data)),
        0x51 | 0x54 | 0x55 | 0x61 | 0x71 | 0x81 => Value::Signed(signed(data)),
        0x72 => Value::Float(f32::from_be_bytes(array(data)?)),
        0x82 => Value::Double(f64::from_be_bytes(array(data)?)),
        0x73 => {
            let code = u32::from_be_bytes(array(data)?);
            Value::Char(char::from_u32(code).ok_or(Malformed("no character"))?)
        }
        0x83 => Value::Timestamp(signed(data)),
        0x74 | 0x84 | 0x94 => Value::Decimal,
        0x98 => Value::Uuid(array(data)?),
        0xa0 | 0xb0 => Value::Binary(data),
        0xa1 | 0xb1 => Value::String(text(data)?),
        0xa3 | 0xb3 => Value::Symbol(text(data)?),
        0xc0 => Value::List(items(data, 1)?),
        0xd0 => Value::List(items(data, 4)?),
        0xc1 => Value::Map(items(data, 1)?),
        0xd1 => Value::Map(items(data, 4)?),
        0xe0 => Value::List(array_items(data, 1)?),
        0xf0 => Value::List(array_items(data, 4)?),
        _ => return Err(UNKNOWN),
    })
}

fn items(mut bytes: &[u8], width: usize) -> Result<Items<'_>, Malformed> {
    let left = number(&mut bytes, width)?;
    Items::of(bytes, left, None)
}

fn array_items(mut bytes: &[u8], width: usize) -> Result<Items<'_>, Malformed> {
    let left = number(&mut bytes, width)?;
    let constructor = Some(byte(&mut bytes)?);
    Items::of(bytes, left, constructor)
}

fn unsigned(data: &[u8]) -> u64 {
    data.iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn signed(data: &[u8]) -> i64 {
    let unused = 64_usize.saturating_sub(8 * data.len());
    unsigned(data).cast_signed() << unused >> unused
}

fn array<const N: usize>(data: &[u8]) -> Result<[u8; N], Malformed> {
    data.try_into().map_err(|_| SHORT)
}

fn text(data: &[u8]) -> Result<&str, Malformed> {
    str::from_utf8(data).map_err(|_| Malformed("a text that is not UTF-8"))
}

const DESCRIBED: u8 = 0;
const SHORT: Malformed = Malformed("a value that is not whole");
const UNKNOWN: Malformed = Malformed("a value of an unknown kind");

#[cfg(test)]
mod tests {
    use serde_amqp::primitives::{Array, OrderedMap, Symbol, Timestamp, Uuid};
    use serde_amqp::{Value as Theirs, described::Described, to_vec};

    use super::*;

    #[test]
    fn values_that_another_library_writes_are_read_as_they_are() {
        let text = "x".repeat(300);
        let cases = [
            (Theirs::Null, Value::Null),
            (Theirs::Bool(true), Value::Bool(true)),
            (Theirs::Ubyte(200), Value::Unsigned(200)),
            (Theirs::Ushort(60_000), Value::Unsigned(60_000)),
            (Theirs::Uint(0), Value::Unsigned(0)),
            (Theirs::Uint(7), Value::Unsigned(7)),
            (Theirs::Ulong(u64::MAX), Value::Unsigned(u64::MAX)),
            (Theirs::Byte(-3), Value::Signed(-3)),
            (Theirs::Short(-300), Value::Signed(-300)),
            (Theirs::Int(-7), Value::Signed(-7)),
            (Theirs::Int(i32::MIN), Value::Signed(i32::MIN.into())),
            (Theirs::Long(i64::MIN), Value::Signed(i64::MIN)),
            (Theirs::Float(1.5.into()), Value::Float(1.5)),
            (Theirs::Double((-2.5).into()), Value::Double(-2.5)),
            (Theirs::Char('ä'), Value::Char('ä')),
            (Theirs::Timestamp(Timestamp::from(-1)), Value::Timestamp(-1)),
            (Theirs::Uuid(Uuid::from([7; 16])), Value::Uuid([7; 16])),
            (Theirs::Binary(vec![1, 2].into()), Value::Binary(&[1, 2])),
            (Theirs::String("ä".into()), Value::String("ä")),
            (Theirs::String(text.clone()), Value::String(&text)),
            (Theirs::Symbol(Symbol::from("s")), Value::Symbol("s")),
        ];
        for (theirs, ours) in cases {
            let bytes = to_vec(&theirs).unwrap();
            let mut rest = &*bytes;
            assert_eq!(take(&mut rest), Ok(ours), "{theirs:?}");
            assert!(rest.is_empty());
        }
    }

    fn all(mut items: Items<'_>) -> Vec<Value<'_>> {
        std::iter::from_fn(|| items.next().unwrap()).collect()
    }

    #[test]
    fn lists_maps_and_arrays_hold_what_they_were_given() {
        let list = to_vec(&Theirs::List(vec![Theirs::Null, Theirs::Uint(300)])).unwrap();
        let Ok(Value::List(items)) = take(&mut &*list) else {
            panic!("no list");
        };
        assert_eq!(all(items), [Value::Null, Value::Unsigned(300)]);
        let mut map = OrderedMap::new();
        map.insert(Theirs::String("k".into()), Theirs::Bool(false));
        let map = to_vec(&Theirs::Map(map)).unwrap();
        let Ok(Value::Map(items)) = take(&mut &*map) else {
            panic!("no map");
        };
        assert_eq!(all(items), [Value::String("k"), Value::Bool(false)]);
        let names = ["PLAIN", "EXTERNAL"].map(Symbol::from).to_vec();
        let array = to_vec(&Array::from(names)).unwrap();
        let Ok(Value::List(items)) = take(&mut &*array) else {
            panic!("no array");
        };
        let expected = [Value::Symbol("PLAIN"), Value::Symbol("EXTERNAL")];
        assert_eq!(all(items), expected);
        assert_eq!(take(&mut &[0x45][..]), Ok(Value::List(Items::default())));
    }

    #[test]
    fn a_described_value_is_whole_and_looked_at_when_it_is_asked_for() {
        let described = Described {
            descriptor: serde_amqp::descriptor::Descriptor::Code(0x24),
            value: Theirs::List(vec![Theirs::Bool(true)]),
        };
        let bytes = to_vec(&described).unwrap();
        let value = take(&mut &*bytes).unwrap();
        let fields = value.composite(0x24).unwrap().expect("this kind");
        assert_eq!(all(fields), [Value::Bool(true)]);
        assert_eq!(value.composite(0x25), Ok(None));
    }

    #[test]
    fn bytes_that_lie_are_malformed() {
        for bytes in [
            &[][..],
            &[0x00],
            &[0x00, 0x00, 0x53, 1, 0x40],
            &[0x70, 0, 0],
            &[0xa1, 3, b'a'],
            &[0xa1, 1, 0xff],
            &[0x73, 0, 0x11, 0, 0],
            &[0xc0, 1, 2],
            &[0xd0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1],
            &[0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40],
            &[0x01],
            &[0x4f],
        ] {
            assert!(take(&mut &*bytes).is_err(), "{bytes:02x?}");
        }
        // An endless chain of descriptors is passed without recursion.
        let chain = [0x00, 0x53, 0x01].repeat(100_000);
        assert!(take(&mut &*chain).is_err());
    }
}
