//! The routing table: which queues are bound to a topic.
