//! Counters per shard, summed when read.
