//! [`tidewire_fuzz::targets::retained`] for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidewire_fuzz::targets::retained::run(data));
