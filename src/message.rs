//! Messages and their deliveries.
