//! Numbers that follow from a seed.

/// xorshift64*: small, fast, and good enough to choose mutations.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence for any seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `end`, 0 if that is 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() >> 33) as usize % end.max(1)
    }

    /// Any byte.
    pub fn byte(&mut self) -> u8 {
        (self.bits() >> 56) as u8
    }
}
