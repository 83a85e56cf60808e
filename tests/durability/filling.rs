//! Publishing until there is no room, and receiving what was accepted.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::client::{Client, Out, PATIENCE, PUBACK, PUBCOMP, PUBREC, PUBREL, Packet, ack};
use crate::program::Program;

/// On their way at once.
const WINDOW_BYTES: usize = 2 << 20;

/// Publishes until three windows in a row were refused to the last; answers what was accepted.
pub(crate) fn fill(broker: &Program, number: &mut u32, qos: u8, bytes: usize) -> BTreeSet<u32> {
    let mut writer = broker.passing("filling");
    let window = u16::try_from(WINDOW_BYTES / (bytes + 100))
        .unwrap()
        .min(1_000);
    let mut accepted = BTreeSet::new();
    let mut refused_windows = 0;
    while refused_windows < 3 {
        assert!(accepted.len() < 200_000, "the store never fills");
        let padding = "x".repeat(bytes);
        let mut out = Vec::new();
        for id in 1..=window {
            let text = format!("{} {padding}", *number + u32::from(id));
            let mut publish = Out::new("a", qos, &text);
            publish.id = id;
            out.extend(publish.encode(5));
        }
        writer.send(&out);
        refused_windows += 1;
        for _ in 0..window {
            let (id, reason) = answer(&mut writer);
            if reason == 0 {
                refused_windows = 0;
                accepted.insert(*number + u32::from(id));
            } else {
                assert_eq!(reason, 0x97);
            }
        }
        *number += u32::from(window);
    }
    accepted
}

/// The end of one exchange.
fn answer(writer: &mut Client) -> (u16, u8) {
    loop {
        match writer.packet() {
            Packet::Ack {
                first: PUBREC,
                id,
                reason: 0,
            } => writer.send(&ack(PUBREL, id)),
            Packet::Ack { id, reason, .. } => return (id, reason),
            other => panic!("{other:?}"),
        }
    }
}

/// Acknowledges as late as the broker bears it: each message in flight is a row in what room is
/// left. What was refused may come too: the session had it before the store said no.
pub(crate) fn drain(broker: &Program, id: &str, accepted: &BTreeSet<u32>) {
    let mut reader = broker.resume(id);
    reader.set_patience(Duration::from_millis(300));
    let mut missing = accepted.clone();
    let mut acks = Vec::new();
    let mut releases = 0;
    let mut idle = 0;
    while !missing.is_empty() || releases > 0 {
        match reader.next() {
            Some(Packet::Publish(message)) => {
                let number = message.text().split(' ').next().unwrap().parse().unwrap();
                let is_new = missing.remove(&number);
                assert!(is_new || !accepted.contains(&number), "{number} again");
                let is_exact = message.qos == 2;
                acks.extend(ack(if is_exact { PUBREC } else { PUBACK }, message.id));
                releases += usize::from(is_exact);
            }
            Some(Packet::Ack {
                first: PUBREL, id, ..
            }) => {
                releases -= 1;
                reader.send(&ack(PUBCOMP, id));
            }
            Some(other) => panic!("{other:?}"),
            None => {
                idle = if acks.is_empty() { idle + 1 } else { 0 };
                assert!(!reader.is_ended && idle < 600, "{id} waits in vain");
                // From now on as soon as the broker waits for us.
                reader.set_patience(Duration::from_millis(30));
                reader.send(&std::mem::take(&mut acks));
            }
        }
    }
    reader.set_patience(PATIENCE);
    reader.send(&acks);
    reader.settled_behind_messages();
    reader.disconnect(None);
}

/// Publishes one window after the other until `goes_on` says no or the broker is gone; answers what
/// was accepted, in order.
pub(crate) fn publish_while(
    broker: &Program,
    number: &mut u32,
    bytes: usize,
    mut goes_on: impl FnMut(u32, u8) -> bool,
) -> BTreeSet<u32> {
    let mut writer = broker.passing("writer");
    let mut accepted = BTreeSet::new();
    let padding = "x".repeat(bytes);
    let last = *number + 20_000;
    loop {
        assert!(*number < last, "it goes on for ever");
        let mut out = Vec::new();
        for id in 1..=16 {
            let text = format!("{} {padding}", *number + u32::from(id));
            let mut publish = Out::new("a", 1, &text);
            publish.id = id;
            out.extend(publish.encode(5));
        }
        let first = *number;
        *number += 16;
        if writer.try_send(&out).is_none() {
            return accepted;
        }
        // All are answered before this ends: what is not waited for may be there or not.
        let mut is_over = false;
        for _ in 0..16 {
            let Some(Packet::Ack { id, reason, .. }) = writer.next() else {
                assert!(writer.is_ended);
                return accepted;
            };
            if reason == 0 {
                accepted.insert(first + u32::from(id));
            }
            is_over |= !goes_on(first + u32::from(id), reason);
        }
        if is_over {
            return accepted;
        }
    }
}
