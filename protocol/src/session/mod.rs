//! One party's protocol state, for either end of a connection.
