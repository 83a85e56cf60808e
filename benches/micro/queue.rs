//! Deliveries through a queue, in the batches that a turn of a shard makes.

use criterion::{BenchmarkId, Criterion, Throughput};
use tidewire::config::Limits;
use tidewire::message::{Header, Message};
use tidewire::queue::{Delivery, Pushed, Queue};
use tidewire::store::Ticket;
use tidewire_protocol::codec::QoS;

const NOW_MS: u64 = 1_000;

/// Pushes a batch and takes it out again.
pub(crate) fn hand_over(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("queue");
    let limits = Limits::default();
    let header = Header {
        qos: QoS::AtLeastOnce,
        expires_at_ms: Some(NOW_MS * 60),
        ..Header::default()
    };
    let topic = "site/042/line/03/sensor/temperature";
    let message = Message::new(topic, &[], &[b'x'; 64], header);
    for batch in [1_u64, 16, 256] {
        // What waits behind the batch, as in a session that is never quite done.
        for waiting in [0, 500] {
            let mut queue = Queue::default();
            (0..waiting).for_each(|_| push(&mut queue, &message, &limits));
            group.throughput(Throughput::Elements(batch));
            let id = BenchmarkId::new(format!("hand-over, {waiting} waiting"), batch);
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    (0..batch).for_each(|_| push(&mut queue, &message, &limits));
                    (0..batch).filter_map(|_| queue.next(NOW_MS)).count()
                });
            });
        }
    }
    group.finish();
}

fn push(queue: &mut Queue, message: &Message, limits: &Limits) {
    let delivery = Delivery {
        message: message.clone(),
        qos: QoS::AtLeastOnce,
        retain: false,
        subscription_ids: None,
        group: None,
        stored: None,
    };
    assert_eq!(
        queue.push(delivery, limits, Ticket::default()),
        Pushed::Queued
    );
}
