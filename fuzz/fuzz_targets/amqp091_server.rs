//! [`tidewire_fuzz::targets::server::amqp091`] for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidewire_fuzz::targets::server::amqp091(data));
