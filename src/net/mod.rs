//! Listeners, transports and the task of one connection.
