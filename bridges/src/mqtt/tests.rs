mod reconnect;

use std::num::NonZeroU16;

use tidewire_protocol::codec::{
    Ack, Packet, PacketId, ProtocolVersion, Publish, QoS, ReasonCode, Receiver, decode, encode,
};

use super::Remembered;
use super::engine::{Engine, SessionAtServer};
use super::peer::Peer;
use crate::{Class, Note, Record, Settled};

const V5: ProtocolVersion = ProtocolVersion::V5;

/// An engine and what it wrote.
struct Party {
    engine: Engine,
    out: Vec<u8>,
}

impl Party {
    /// Without a connection.
    fn of(engine: Engine) -> Self {
        Self {
            engine,
            out: Vec::new(),
        }
    }

    fn new() -> Self {
        let mut party = Self::of(Engine::default());
        party.connect(SessionAtServer::None, Peer::default());
        party
    }

    fn connect(&mut self, session: SessionAtServer, peer: Peer) -> Vec<u64> {
        self.out.clear();
        self.engine.begin(V5, peer, session, &mut self.out)
    }

    fn submit(&mut self, sequences: std::ops::RangeInclusive<u64>, qos: QoS) {
        self.engine
            .submit(sequences.map(|sequence| record(sequence, qos)));
        self.engine.fill(&mut self.out, 1 << 20);
    }

    fn receive(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(packet, V5, &mut bytes).unwrap();
        let used = self.engine.receive(&bytes, 1 << 20, &mut self.out).unwrap();
        assert_eq!(used, bytes.len());
        self.engine.fill(&mut self.out, 1 << 20);
    }

    /// What was written, in short: type, identifier, payload or reason, DUP.
    fn written(&mut self) -> Vec<String> {
        let out = std::mem::take(&mut self.out);
        let mut rest = &out[..];
        let mut written = Vec::new();
        while let Some((packet, used)) = decode(rest, V5, Receiver::Server, 1 << 20).unwrap() {
            written.push(show(&packet));
            rest = &rest[used..];
        }
        written
    }

    fn settled(&mut self) -> Vec<u64> {
        let settled = std::mem::take(&mut self.engine.settled);
        assert!(settled.iter().all(|it| it.result.is_ok()), "{settled:?}");
        settled.iter().map(|it| it.sequence).collect()
    }
}

fn record(sequence: u64, qos: QoS) -> Record {
    Record {
        sequence,
        topic: "t".into(),
        payload: sequence.to_string().into(),
        qos,
        ..Record::default()
    }
}

fn show(packet: &Packet<'_>) -> String {
    let ack = |name: &str, ack: &Ack<'_>| format!("{name} {}", ack.packet_id.value());
    match packet {
        Packet::Publish(it) => {
            let id = it.packet_id.map_or(0, PacketId::value);
            let dup = if it.dup { " dup" } else { "" };
            format!("publish {id} {}{dup}", String::from_utf8_lossy(it.payload))
        }
        Packet::PubAck(it) => ack("puback", it),
        Packet::PubRec(it) => ack("pubrec", it),
        Packet::PubRel(it) => ack("pubrel", it),
        Packet::PubComp(it) => ack("pubcomp", it),
        other => format!("{other:?}"),
    }
}

fn good(id: u16) -> Ack<'static> {
    bad(id, ReasonCode::Success)
}

fn bad(id: u16, reason: ReasonCode) -> Ack<'static> {
    Ack::plain(PacketId::new(id).unwrap(), reason)
}

fn publish(id: u16, qos: QoS, dup: bool) -> Packet<'static> {
    Packet::Publish(Publish {
        dup,
        qos,
        packet_id: PacketId::new(id),
        ..Publish::new("t", b"x")
    })
}

#[test]
fn qos_2_messages_are_settled_once_by_pubcomp_over_a_reconnect() {
    let mut party = Party::new();
    party.submit(1..=3, QoS::ExactlyOnce);
    party.receive(&Packet::PubRec(good(1)));
    assert_eq!(
        party.written(),
        ["publish 1 1", "publish 2 2", "publish 3 3", "pubrel 1"]
    );
    assert_eq!(
        party.connect(SessionAtServer::Ours, Peer::default()),
        [1, 2, 3]
    );
    party.engine.fill(&mut party.out, 1 << 20);
    assert_eq!(
        party.written(),
        ["pubrel 1", "publish 2 2 dup", "publish 3 3 dup"]
    );
    party.receive(&Packet::PubComp(good(1)));
    party.receive(&Packet::PubRec(good(2)));
    party.receive(&Packet::PubComp(good(2)));
    assert_eq!(party.settled(), [1, 2]);
}

#[test]
fn a_lost_session_holds_nothing() {
    let mut party = Party::new();
    party.submit(1..=3, QoS::ExactlyOnce);
    party.receive(&Packet::PubRec(good(1)));
    // The server has taken the first: it is not sent again.
    let held = party.connect(SessionAtServer::None, Peer::default());
    assert_eq!((held, party.settled()), (vec![1], vec![1]));
    party.submit(2..=3, QoS::ExactlyOnce);
    assert_eq!(party.written(), ["publish 1 2", "publish 2 3"]);
}

/// A party whose notes are kept when it is told so.
fn durable() -> Party {
    let mut party = Party::of(Engine::new(true));
    party.connect(SessionAtServer::None, Peer::default());
    party
}

fn notes(party: &mut Party) -> Vec<String> {
    let show = |note: &Note| match note {
        Note::Begin { session } => format!("begin {session}"),
        Note::Send {
            packet_id,
            sequence,
        } => format!("send {} {sequence}", packet_id.value()),
        Note::Release { packet_id, .. } => format!("release {}", packet_id.value()),
        Note::Complete(packet_id) => format!("complete {}", packet_id.value()),
        Note::Forget(packet_id) => format!("forget {}", packet_id.value()),
    };
    let notes = std::mem::take(&mut party.engine.journal.notes);
    notes.iter().map(show).collect()
}

fn keep(party: &mut Party, count: usize) {
    party.engine.keep(count, &mut party.out);
    party.engine.fill(&mut party.out, 1 << 20);
}

#[test]
fn with_a_store_publish_pubrel_and_pubcomp_wait_until_they_are_noted() {
    let mut party = durable();
    party.submit(1..=2, QoS::ExactlyOnce);
    party.submit(3..=3, QoS::AtMostOnce);
    assert_eq!(notes(&mut party), ["send 1 1", "send 2 2"]);
    assert!(party.written().is_empty());
    keep(&mut party, 1);
    assert_eq!(party.written(), ["publish 1 1"]);
    party.receive(&Packet::PubRec(good(1)));
    assert_eq!(notes(&mut party), ["release 1"]);
    keep(&mut party, 1);
    assert_eq!(party.written(), ["publish 2 2", "publish 0 3"]);
    // PUBREC comes again before the first is noted.
    party.receive(&Packet::PubRec(good(1)));
    assert!(party.written().is_empty());
    keep(&mut party, 1);
    assert_eq!(party.written(), ["pubrel 1"]);
    party.receive(&Packet::PubComp(good(1)));
    assert_eq!(
        (notes(&mut party), party.settled()),
        (vec!["complete 1".into()], vec![1])
    );
    party.receive(&publish(9, QoS::ExactlyOnce, false));
    let receipt = party.engine.received.pop().unwrap().receipt;
    party.engine.accept(receipt, &mut party.out);
    party.receive(&Packet::PubRel(good(9)));
    assert_eq!(
        (notes(&mut party), party.written()),
        (vec!["forget 9".into()], vec!["pubrec 9".into()])
    );
    keep(&mut party, 2);
    assert_eq!(party.written(), ["pubcomp 9"]);
}

#[test]
fn a_process_goes_on_with_what_an_earlier_one_had_in_flight() {
    let id = |value| PacketId::new(value).unwrap();
    let remembered = Remembered {
        session: "s".into(),
        sent: vec![id(7), id(5)],
        released: vec![id(4)],
        received: vec![id(20)],
    };
    let mut party = Party::of(Engine::new(true));
    party.engine.remember(&remembered);
    party.connect(SessionAtServer::Ours, Peer::default());
    assert_eq!(party.written(), ["pubrel 4"]);
    let before = |sequence, sent_as| Record {
        sent_as: Some(id(sent_as)),
        ..record(sequence, QoS::ExactlyOnce)
    };
    party.engine.submit([before(1, 7), before(2, 5)]);
    party.submit(3..=3, QoS::ExactlyOnce);
    let sent = ["pubrel 6", "publish 7 1 dup", "publish 5 2 dup"];
    assert_eq!(party.written(), sent);
    assert!(notes(&mut party).is_empty());
    party.receive(&Packet::PubComp(good(6)));
    assert_eq!(notes(&mut party), ["send 6 3"]);
    keep(&mut party, 1);
    assert_eq!(party.written(), ["publish 6 3"]);
    party.receive(&publish(20, QoS::ExactlyOnce, true));
    assert!(party.engine.received.is_empty());
    assert_eq!(party.written(), ["pubrec 20"]);
    party.receive(&Packet::PubComp(good(4)));
    assert_eq!(notes(&mut party), ["complete 4"]);
    // Another session knows nothing of all this.
    party.connect(SessionAtServer::None, Peer::default());
    party.engine.journal.begin("t");
    assert_eq!(notes(&mut party), ["begin t"]);
    party.engine.submit([before(1, 7)]);
    party.receive(&publish(20, QoS::ExactlyOnce, false));
    assert_eq!(
        (notes(&mut party), party.engine.received.len()),
        (vec!["send 1 1".into()], 1)
    );
}

#[test]
fn the_window_starts_small_grows_and_stays_within_receive_maximum() {
    let mut party = Party::new();
    let peer = Peer {
        inflight_max: 10,
        ..Peer::default()
    };
    party.connect(SessionAtServer::None, peer);
    party.submit(1..=100, QoS::AtLeastOnce);
    assert_eq!(party.written().len(), 8);
    for id in 1..=50 {
        party.receive(&Packet::PubAck(good(id)));
        assert!(party.engine.in_flight() <= 10);
    }
    assert_eq!(party.engine.in_flight(), 10);
    assert_eq!(party.settled(), (1..=50).collect::<Vec<u64>>());
}

#[test]
fn what_the_server_does_not_take_is_lowered_or_poison() {
    let mut party = Party::new();
    let peer = Peer {
        qos_max: QoS::AtMostOnce,
        packet_bytes_max: 50,
        ..Peer::default()
    };
    party.connect(SessionAtServer::None, peer);
    party.submit(1..=1, QoS::ExactlyOnce);
    assert_eq!(party.written(), ["publish 0 1"]);
    let large = Record {
        payload: vec![0; 60].into(),
        ..record(2, QoS::ExactlyOnce)
    };
    party.engine.submit([large]);
    party.engine.fill(&mut party.out, 1 << 20);
    assert!(party.out.is_empty());
    let settled = std::mem::take(&mut party.engine.settled);
    let [
        Settled {
            sequence: 2,
            result: Err(failure),
        },
    ] = &settled[..]
    else {
        unreachable!("{settled:?}");
    };
    assert_eq!(failure.class, Class::Poison);
    party.engine.written();
    assert_eq!(party.settled(), [1]);
}

#[test]
fn refusals_are_poison_or_to_be_tried_again() {
    let mut party = Party::new();
    party.submit(1..=1, QoS::AtLeastOnce);
    party.submit(2..=2, QoS::ExactlyOnce);
    party.receive(&Packet::PubAck(bad(1, ReasonCode::NotAuthorized)));
    party.receive(&Packet::PubRec(bad(2, ReasonCode::QuotaExceeded)));
    let settled = std::mem::take(&mut party.engine.settled);
    let classes: Vec<_> = settled
        .iter()
        .map(|it| (it.sequence, it.result.as_ref().map_err(|it| it.class)))
        .collect();
    assert_eq!(classes, [(1, Err(Class::Poison)), (2, Err(Class::Retry))]);
    assert_eq!(party.engine.in_flight(), 0);
}

#[test]
fn acknowledgements_for_nothing_change_nothing() {
    let mut party = Party::new();
    for packet in [
        Packet::PubAck(good(7)),
        Packet::PubRec(good(7)),
        Packet::PubComp(good(7)),
        Packet::PubRel(good(7)),
    ] {
        party.receive(&packet);
    }
    assert_eq!(party.written(), ["pubrel 7", "pubcomp 7"]);
    assert!(party.settled().is_empty());
}

#[test]
fn a_qos_2_message_is_given_once_and_acknowledged_when_it_is_accepted() {
    let mut party = Party::new();
    party.receive(&publish(5, QoS::ExactlyOnce, false));
    party.receive(&publish(5, QoS::ExactlyOnce, true));
    assert!(party.written().is_empty());
    assert_eq!(party.engine.received.len(), 1);
    let receipt = party.engine.received.pop().unwrap().receipt;
    party.connect(SessionAtServer::Ours, Peer::default());
    party.receive(&publish(5, QoS::ExactlyOnce, true));
    party.engine.accept(receipt, &mut party.out);
    party.receive(&publish(5, QoS::ExactlyOnce, true));
    party.receive(&Packet::PubRel(good(5)));
    assert_eq!(party.written(), ["pubrec 5", "pubrec 5", "pubcomp 5"]);
    assert!(party.engine.received.is_empty());
    party.receive(&publish(5, QoS::ExactlyOnce, false));
    assert_eq!(party.engine.received.len(), 1);
}

#[test]
fn a_receipt_of_an_earlier_connection_or_session_acknowledges_nothing_new() {
    let mut party = Party::new();
    party.receive(&publish(5, QoS::AtLeastOnce, false));
    party.receive(&publish(6, QoS::ExactlyOnce, false));
    let old: Vec<_> = party
        .engine
        .received
        .drain(..)
        .map(|it| it.receipt)
        .collect();
    party.connect(SessionAtServer::None, Peer::default());
    party.receive(&publish(6, QoS::ExactlyOnce, false));
    for receipt in old {
        party.engine.accept(receipt, &mut party.out);
    }
    assert!(party.written().is_empty());
    assert_eq!(party.engine.received.len(), 1);
}

#[test]
fn a_session_of_an_earlier_process_does_not_take_new_messages_for_old_ones() {
    let mut party = Party::of(Engine::default());
    let held = party.connect(SessionAtServer::Strange, Peer::default());
    assert!(held.is_empty());
    party.submit(1..=2, QoS::ExactlyOnce);
    assert_eq!(party.written(), ["pubrel 1", "pubrel 2"]);
    // The answer to the first PUBREL is not the end of the message.
    party.receive(&Packet::PubComp(bad(
        1,
        ReasonCode::PacketIdentifierNotFound,
    )));
    assert_eq!(party.written(), ["publish 1 1"]);
    assert!(party.settled().is_empty());
    party.receive(&Packet::PubRec(good(1)));
    party.receive(&Packet::PubComp(good(1)));
    assert_eq!(
        (party.settled(), party.written()),
        (vec![1], vec!["pubrel 1".into()])
    );
    // Nobody knows whether the server has seen the second, which comes again.
    assert!(party.engine.awaits_answers());
    let held = party.connect(SessionAtServer::Ours, Peer::default());
    assert!(held.is_empty() && !party.engine.awaits_answers());
    party.submit(2..=2, QoS::ExactlyOnce);
    assert_eq!(party.written(), ["pubrel 3"]);
    party.receive(&Packet::PubComp(good(3)));
    assert_eq!(party.written(), ["publish 3 2"]);
}

#[test]
fn an_identifier_that_the_server_may_hold_is_noted_in_the_order_of_messages_once_it_is_released() {
    let mut party = Party::of(Engine::new(true));
    party.connect(SessionAtServer::Strange, Peer::default());
    party.submit(1..=3, QoS::ExactlyOnce);
    assert_eq!(party.written(), ["pubrel 1", "pubrel 2", "pubrel 3"]);
    // A process that were killed now would have sent nothing.
    party.receive(&Packet::PubComp(good(2)));
    assert!(notes(&mut party).is_empty());
    party.receive(&Packet::PubComp(good(1)));
    assert_eq!(notes(&mut party), ["send 1 1", "send 2 2"]);
    keep(&mut party, 2);
    assert_eq!(party.written(), ["publish 1 1", "publish 2 2"]);
    let held = party.connect(SessionAtServer::Ours, Peer::default());
    assert_eq!(held, [1, 2]);
    party.submit(3..=3, QoS::ExactlyOnce);
    let all = ["publish 1 1 dup", "publish 2 2 dup", "pubrel 4"];
    assert_eq!(party.written(), all);
    party.receive(&Packet::PubComp(good(4)));
    assert_eq!(notes(&mut party), ["send 4 3"]);
}

#[test]
fn a_pubrec_for_what_was_not_sent_is_about_an_earlier_message() {
    let mut party = Party::of(Engine::new(true));
    party.connect(SessionAtServer::Strange, Peer::default());
    party.submit(1..=1, QoS::ExactlyOnce);
    party.receive(&Packet::PubRec(good(1)));
    party.receive(&Packet::PubComp(good(1)));
    // Nor while it is being noted.
    party.receive(&Packet::PubRec(good(1)));
    party.receive(&Packet::PubComp(good(1)));
    assert_eq!(party.written(), ["pubrel 1", "pubrel 1", "pubrel 1"]);
    assert_eq!(notes(&mut party), ["send 1 1"]);
    assert!(party.settled().is_empty());
    keep(&mut party, 1);
    assert_eq!(party.written(), ["publish 1 1"]);
    party.receive(&Packet::PubRec(good(1)));
    assert_eq!(notes(&mut party), ["release 1"]);
}

#[test]
fn a_server_that_answers_no_pubrel_is_asked_over_three_connections() {
    let mut party = Party::of(Engine::default());
    party.connect(SessionAtServer::Strange, Peer::default());
    for id in 1..=3 {
        party.submit(1..=1, QoS::ExactlyOnce);
        assert_eq!(party.written(), [format!("pubrel {id}")]);
        assert!(party.engine.warnings.is_empty());
        party.connect(SessionAtServer::Ours, Peer::default());
    }
    let warnings = std::mem::take(&mut party.engine.warnings);
    assert!(
        warnings[0].contains("does not answer PUBREL"),
        "{warnings:?}"
    );
    party.submit(1..=1, QoS::ExactlyOnce);
    assert_eq!(party.written(), ["publish 4 1"]);
}

#[test]
fn topics_are_sent_once_and_then_by_alias() {
    let mut party = Party::new();
    let peer = Peer {
        topic_aliases_max: 1,
        ..Peer::default()
    };
    party.connect(SessionAtServer::None, peer);
    party.submit(1..=2, QoS::AtMostOnce);
    let other = Record {
        topic: "u".into(),
        ..record(3, QoS::AtMostOnce)
    };
    party.engine.submit([other]);
    party.engine.fill(&mut party.out, 1 << 20);
    let mut rest = &party.out[..];
    let mut topics = Vec::new();
    while let Some((Packet::Publish(publish), used)) =
        decode(rest, V5, Receiver::Server, 1 << 20).unwrap()
    {
        let alias = publish.properties.topic_alias.map(NonZeroU16::get);
        topics.push((publish.topic.to_owned(), alias));
        rest = &rest[used..];
    }
    let expected = [("t", Some(1)), ("", Some(1)), ("u", None)];
    assert_eq!(
        topics,
        expected.map(|(topic, alias)| (topic.to_owned(), alias))
    );
}
