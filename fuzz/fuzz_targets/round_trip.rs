//! [`tidewire_fuzz::targets::round_trip`] for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidewire_fuzz::targets::round_trip::run(data));
