//! [`tidewire_fuzz::targets::server::amqp10`] for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidewire_fuzz::targets::server::amqp10(data));
