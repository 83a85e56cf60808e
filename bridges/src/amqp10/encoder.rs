//! Values as bytes (AMQP 1.0 part 1), each in its shortest form.

/// Writes values behind what is there.
#[derive(Debug)]
pub(super) struct Encoder<'a>(pub(super) &'a mut Vec<u8>);

impl Encoder<'_> {
    pub(super) fn null(&mut self) {
        self.0.push(0x40);
    }

    pub(super) fn bool(&mut self, value: bool) {
        self.0.push(if value { 0x41 } else { 0x42 });
    }

    pub(super) fn ubyte(&mut self, value: u8) {
        self.0.extend([0x50, value]);
    }

    pub(super) fn byte(&mut self, value: i8) {
        self.0.extend([0x51, value.cast_unsigned()]);
    }

    pub(super) fn ushort(&mut self, value: u16) {
        self.0.push(0x60);
        self.0.extend(value.to_be_bytes());
    }

    pub(super) fn uint(&mut self, value: u32) {
        match u8::try_from(value) {
            Ok(0) => self.0.push(0x43),
            Ok(small) => self.0.extend([0x52, small]),
            Err(_) => {
                self.0.push(0x70);
                self.0.extend(value.to_be_bytes());
            }
        }
    }

    pub(super) fn ulong(&mut self, value: u64) {
        match u8::try_from(value) {
            Ok(0) => self.0.push(0x44),
            Ok(small) => self.0.extend([0x53, small]),
            Err(_) => {
                self.0.push(0x80);
                self.0.extend(value.to_be_bytes());
            }
        }
    }

    /// Milliseconds since 1970.
    pub(super) fn timestamp(&mut self, value: i64) {
        self.0.push(0x83);
        self.0.extend(value.to_be_bytes());
    }

    pub(super) fn binary(&mut self, value: &[u8]) {
        self.variable([0xa0, 0xb0], value);
    }

    pub(super) fn string(&mut self, value: &str) {
        self.variable([0xa1, 0xb1], value.as_bytes());
    }

    pub(super) fn symbol(&mut self, value: &str) {
        self.variable([0xa3, 0xb3], value.as_bytes());
    }

    /// An array of one symbol.
    pub(super) fn symbols_of(&mut self, value: &str) {
        self.compound([0xe0, 0xf0], |own| {
            own.symbol(value);
            1
        });
    }

    fn variable(&mut self, [short, long]: [u8; 2], value: &[u8]) {
        match u8::try_from(value.len()) {
            Ok(size) => self.0.extend([short, size]),
            Err(_) => {
                // Nobody hands over more: the largest payload of MQTT has 28 bits.
                let size = u32::try_from(value.len()).unwrap_or(u32::MAX);
                self.0.push(long);
                self.0.extend(size.to_be_bytes());
            }
        }
        self.0.extend_from_slice(value);
    }

    /// What stands before a value that is described by this number.
    pub(super) fn descriptor(&mut self, code: u64) {
        self.0.push(0);
        self.ulong(code);
    }

    /// A composite value: its fields in order, of which those that are not written at its end are
    /// left out.
    pub(super) fn composite(&mut self, code: u64, fields: impl FnOnce(&mut Fields<'_>)) {
        self.descriptor(code);
        self.compound([0xc0, 0xd0], |own| {
            let mut written = Fields::new(own.0);
            fields(&mut written);
            written.finish()
        });
    }

    /// A map, of as many pairs as its writer says.
    pub(super) fn map(&mut self, pairs: impl FnOnce(&mut Encoder<'_>) -> u32) {
        self.compound([0xc1, 0xd1], |own| 2 * pairs(own));
    }

    /// Size and count come before what they are about: room is left for the short form, which is
    /// made wider where that is needed.
    fn compound(&mut self, [short, long]: [u8; 2], items: impl FnOnce(&mut Encoder<'_>) -> u32) {
        let begin = self.0.len();
        self.0.extend([short, 0, 0]);
        let count = items(&mut Encoder(self.0));
        let size = self.0.len() - begin - 2;
        match (u8::try_from(size), u8::try_from(count)) {
            (Ok(size), Ok(count)) => {
                if let Some(head) = self.0.get_mut(begin + 1..begin + 3) {
                    head.copy_from_slice(&[size, count]);
                }
            }
            _ => {
                let size = u32::try_from(size + 3).unwrap_or(u32::MAX).to_be_bytes();
                let head = [long].into_iter().chain(size).chain(count.to_be_bytes());
                self.0.splice(begin..begin + 3, head);
            }
        }
    }
}

/// The fields of a composite value that is being written.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a mut Vec<u8>,
    count: u32,
    /// Where the fields end that are not left out.
    end: usize,
    said: u32,
}

impl<'a> Fields<'a> {
    fn new(bytes: &'a mut Vec<u8>) -> Self {
        let end = bytes.len();
        Self {
            bytes,
            count: 0,
            end,
            said: 0,
        }
    }

    /// A field that is there.
    pub(super) fn some(&mut self, write: impl FnOnce(&mut Encoder<'_>)) {
        write(&mut Encoder(self.bytes));
        self.count += 1;
        self.said = self.count;
        self.end = self.bytes.len();
    }

    /// A field that may be missing.
    pub(super) fn maybe<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Encoder<'_>, T)) {
        match value {
            Some(value) => self.some(|own| write(own, value)),
            None => self.none(1),
        }
    }

    /// Fields that are missing.
    pub(super) fn none(&mut self, count: u32) {
        (0..count).for_each(|_| Encoder(self.bytes).null());
        self.count += count;
    }

    fn finish(self) -> u32 {
        self.bytes.truncate(self.end);
        self.said
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp10::value::{Value, take};

    fn written(write: impl FnOnce(&mut Encoder<'_>)) -> Vec<u8> {
        let mut bytes = b"before".to_vec();
        write(&mut Encoder(&mut bytes));
        bytes.split_off(6)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = "x".repeat(300);
        let cases = [
            (written(|it| it.null()), Value::Null),
            (written(|it| it.bool(true)), Value::Bool(true)),
            (written(|it| it.bool(false)), Value::Bool(false)),
            (written(|it| it.ubyte(9)), Value::Unsigned(9)),
            (written(|it| it.byte(-1)), Value::Signed(-1)),
            (written(|it| it.ushort(300)), Value::Unsigned(300)),
            (written(|it| it.uint(0)), Value::Unsigned(0)),
            (written(|it| it.uint(255)), Value::Unsigned(255)),
            (written(|it| it.uint(256)), Value::Unsigned(256)),
            (written(|it| it.ulong(0)), Value::Unsigned(0)),
            (written(|it| it.ulong(1 << 40)), Value::Unsigned(1 << 40)),
            (written(|it| it.timestamp(-5)), Value::Timestamp(-5)),
            (written(|it| it.binary(b"ab")), Value::Binary(b"ab")),
            (written(|it| it.string(&long)), Value::String(&long)),
            (written(|it| it.symbol("s")), Value::Symbol("s")),
        ];
        for (bytes, value) in cases {
            let mut rest = &*bytes;
            assert_eq!(take(&mut rest), Ok(value));
            assert!(rest.is_empty(), "{value:?}");
        }
    }

    #[test]
    fn compound_values_are_as_wide_as_they_have_to_be() {
        for size in [0, 10, 251, 252, 253, 254, 255, 256, 1_000] {
            let text = "x".repeat(size);
            let bytes = written(|it| {
                it.composite(7, |fields| {
                    fields.none(1);
                    fields.some(|it| it.string(&text));
                    fields.none(3);
                });
                it.map(|it| {
                    it.symbol("k");
                    it.string(&text);
                    1
                });
            });
            let mut rest = &*bytes;
            let composite = take(&mut rest).unwrap();
            let mut fields = composite.composite(7).unwrap().expect("this kind");
            assert_eq!(fields.next(), Ok(Some(Value::Null)));
            assert_eq!(fields.next(), Ok(Some(Value::String(&text))));
            assert_eq!(fields.next(), Ok(None));
            let Ok(Value::Map(mut pairs)) = take(&mut rest) else {
                panic!("no map");
            };
            assert_eq!(pairs.next(), Ok(Some(Value::Symbol("k"))));
            assert_eq!(pairs.next(), Ok(Some(Value::String(&text))));
            assert_eq!(pairs.next(), Ok(None));
            assert!(rest.is_empty(), "{size}");
        }
    }

    #[test]
    fn an_array_of_one_symbol_is_read_again() {
        let bytes = written(|it| it.symbols_of("queue"));
        let Ok(Value::List(mut items)) = take(&mut &*bytes) else {
            panic!("no array");
        };
        assert_eq!(items.next(), Ok(Some(Value::Symbol("queue"))));
        assert_eq!(items.next(), Ok(None));
    }
}
