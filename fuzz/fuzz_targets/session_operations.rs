//! [`tidewire_fuzz::targets::session_operations`] for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidewire_fuzz::targets::session_operations::run(data));
