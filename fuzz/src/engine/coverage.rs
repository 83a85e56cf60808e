//! Which code an input reached, counted by the compiler's instrumentation.

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

static START: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
static END: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Called before `main` by what `-Cpasses=sancov-module` adds to the program: the counters of all
/// instrumented places are the bytes from `start` to `end`. libFuzzer has one of its own.
#[cfg(not(feature = "libfuzzer"))]
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, end: *mut u8) {
    START.store(start, Ordering::Relaxed);
    END.store(end, Ordering::Relaxed);
}

/// What was reached by all inputs so far, and how often at the most.
#[derive(Debug)]
pub struct Coverage {
    /// For each place the classes of counts seen, a bit each.
    seen: Vec<u8>,
}

impl Coverage {
    /// Nothing reached.
    pub fn new() -> Self {
        Self {
            seen: vec![0; counters().len()],
        }
    }

    /// Sets all counters to zero.
    pub fn clear(&mut self) {
        counters().fill(0);
    }

    /// Whether a place was reached for the first time, or notably more often than before.
    pub fn found_new(&mut self) -> bool {
        let mut is_new = false;
        let (words, _) = counters().as_chunks::<8>();
        for (index, word) in words.iter().enumerate() {
            if u64::from_ne_bytes(*word) == 0 {
                continue;
            }
            for (at, count) in word.iter().enumerate().filter(|(_, count)| **count != 0) {
                let class = 1 << count.ilog2();
                let seen = &mut self.seen[index * 8 + at];
                is_new |= *seen & class == 0;
                *seen |= class;
            }
        }
        is_new
    }

    /// The places reached, and how many there are.
    pub fn reached(&self) -> (usize, usize) {
        let reached = self.seen.iter().filter(|classes| **classes != 0).count();
        (reached, self.seen.len())
    }
}

impl Default for Coverage {
    fn default() -> Self {
        Self::new()
    }
}

/// Empty without instrumentation.
fn counters() -> &'static mut [u8] {
    let (start, end) = (START.load(Ordering::Relaxed), END.load(Ordering::Relaxed));
    if start.is_null() {
        return &mut [];
    }
    // SAFETY: the linker lays the counters out from `start` to `end` for the whole run. They are
    // changed here and by instrumented code, which only the fuzzing thread runs; what the watching
    // thread adds is lost or kept, both harmless. No slice is held while a target runs.
    unsafe { std::slice::from_raw_parts_mut(start, end as usize - start as usize) }
}
