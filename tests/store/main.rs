//! The store by itself, through its public interface.

mod damage;
mod failure;
mod full;
mod kill;
mod model;
mod offline;
mod power_cut;
mod queues;
mod record;
mod retained;
mod round_trip;
mod speed;
mod support;
