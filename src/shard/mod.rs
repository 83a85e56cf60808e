//! One thread: the place where sessions, exchange and retained messages meet.
