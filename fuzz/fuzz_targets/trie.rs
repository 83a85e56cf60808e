//! [`tidewire_fuzz::targets::trie`] for cargo-fuzz.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidewire_fuzz::targets::trie::run(data));
