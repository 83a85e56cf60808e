//! Tokens in CONNECT.

use serde_json::{Value, json};
use tidewire::config::{Authentication, Config, JwtAlgorithm, TokenPlace};
use tidewire_protocol::codec::{Connect, ProtocolVersion, ReasonCode};

use super::broker::{Broker, connect, login, users};
use super::token_signer::{SECRET, TempFile, alice, signed, signed_with};

fn broker(lines: &str, change: impl FnOnce(&mut Config)) -> Broker {
    let file = TempFile::new(SECRET);
    Broker::with(lines, |config| {
        config.auth.jwt = file.jwt(JwtAlgorithm::Hs256);
        config.auth.jwt.leeway_seconds = 0;
        change(config);
    })
}

fn code(broker: &Broker, connect: &Connect<'_>) -> u8 {
    broker.connect(connect).1
}

fn old<'a>(connect: &Connect<'a>) -> Connect<'a> {
    Connect {
        version: ProtocolVersion::V3_1_1,
        ..connect.clone()
    }
}

#[test]
fn a_token_is_a_login_with_and_without_user_name() {
    let broker = broker("", |_| {});
    let token = signed(&alice(60));
    for user_name in ["alice", ""] {
        let connect = login("c", user_name, &token);
        assert_eq!(code(&broker, &connect), 0);
        assert_eq!(code(&broker, &old(&connect)), 0);
    }
    let token_alone = Connect {
        user_name: None,
        ..login("c", "", &token)
    };
    assert_eq!(code(&broker, &token_alone), 0);
    assert_eq!(code(&broker, &login("c", "bob", &token)), 0x87);
    assert_eq!(code(&broker, &connect("c")), 0x87);
}

#[test]
fn alg_none_confusion_expired_and_forged_tokens_are_refused_with_0x86_or_4() {
    let broker = broker("", |config| config.allow_anonymous = Some(true));
    let claims = alice(60);
    let none = signed_with(SECRET, &json!({"alg": "none"}), &claims);
    let rsa = signed_with(SECRET, &json!({"alg": "RS256"}), &claims);
    let forged = signed_with(&[7; 32], &json!({"alg": "HS256"}), &claims);
    let expired = signed(&json!({"sub": "alice", "exp": 1}));
    for token in [none, rsa, forged, expired, "secret".into()] {
        let connect = login("c", "alice", &token);
        assert_eq!(code(&broker, &connect), 0x86, "{token}");
        assert_eq!(code(&broker, &old(&connect)), 4, "{token}");
    }
}

#[test]
fn a_token_that_expires_while_its_client_is_connected_disconnects_it() {
    let broker = broker("", |_| {});
    let token = signed(&alice(2));
    let (mut new, found) = broker.connect(&login("new", "alice", &token));
    assert_eq!(found, 0);
    let (mut older, found) = broker.connect(&old(&login("old", "alice", &token)));
    assert_eq!(found, 0);
    new.ping();
    new.ends_with(ReasonCode::MaximumConnectTime);
    older.is_closed();
    assert_eq!(code(&broker, &login("new", "alice", &token)), 0x86);
}

#[test]
fn a_token_may_be_the_user_name_and_is_not_shown_to_anyone() {
    let broker = broker("", |config| config.auth.jwt.token_in = TokenPlace::UserName);
    let token = signed(&alice(60));
    assert_eq!(code(&broker, &login("c", &token, "")), 0);
    assert_eq!(code(&broker, &login("c", "alice", &token)), 0x86);
}

#[test]
fn a_token_for_a_client_id_is_for_no_other() {
    let broker = broker("", |_| {});
    let mut claims = alice(60);
    claims["client_id"] = json!("c1");
    let token = signed(&claims);
    assert_eq!(code(&broker, &login("c1", "alice", &token)), 0);
    assert_eq!(code(&broker, &login("c2", "alice", &token)), 0x85);
    assert_eq!(code(&broker, &old(&login("c2", "alice", &token))), 2);
}

#[test]
fn passwords_and_tokens_are_accepted_side_by_side_in_the_order_of_the_listener() {
    let token = signed(&alice(60));
    let logins = |broker: &Broker| {
        [
            code(broker, &login("c", "alice", &token)),
            code(broker, &login("c", "alice", "secret")),
            code(broker, &login("c", "alice", "wrong")),
            code(broker, &login("c", "mallory", "secret")),
        ]
    };
    assert_eq!(logins(&broker(&users(), |_| {})), [0, 0, 0x86, 0x86]);
    // The first that knows the user decides.
    let first = [Authentication::Password, Authentication::Jwt];
    let found = broker(&users(), |config| config.auth.order = first.to_vec());
    assert_eq!(logins(&found), [0x86, 0, 0x86, 0x86]);
    let only = |way| {
        broker(&users(), move |config| {
            config.listeners[0].auth = Some(vec![way])
        })
    };
    assert_eq!(logins(&only(Authentication::Jwt)), [0, 0x86, 0x86, 0x86]);
    assert_eq!(
        logins(&only(Authentication::Password)),
        [0x86, 0, 0x86, 0x86]
    );
    let scram = Connect {
        properties: tidewire_protocol::codec::ConnectProperties {
            authentication_method: Some("SCRAM-SHA-256"),
            ..Default::default()
        },
        ..connect("c")
    };
    assert_eq!(code(&only(Authentication::Jwt), &scram), 0x8C);
}

/// The answer to a SUBSCRIBE of MQTT 5.0 for one filter.
pub(crate) fn subscribe(client: &mut super::broker::Client, filter: &str) -> u8 {
    let length = u8::try_from(filter.len()).unwrap();
    let head = [0x82, 6 + length, 0, 1, 0, 0, length];
    client.send_bytes(&[&head, filter.as_bytes(), &[0]].concat());
    *client.receive().last().unwrap()
}

#[test]
fn the_rules_of_a_token_come_first_and_what_none_allows_is_refused() {
    let allowed = |claims: &Value, change: fn(&mut Config)| {
        let broker = broker("", change);
        let (mut client, found) = broker.connect(&login("c", "alice", &signed(claims)));
        assert_eq!(found, 0);
        ["mine/a", "alice/a", "b"].map(|filter| subscribe(&mut client, filter) < 0x80)
    };
    let mut claims = alice(60);
    assert_eq!(allowed(&claims, |_| {}), [true, true, true]);
    claims["acl"] = json!([{"actions": ["read"], "topics": ["mine/#", "%u/#"]}]);
    assert_eq!(allowed(&claims, |_| {}), [true, true, false]);
    let with_rule = |config: &mut Config| {
        config.acl.rules.push(tidewire::config::AclRule {
            actions: vec![tidewire::config::AclAction::All],
            topics: vec!["#".into()],
            ..Default::default()
        });
    };
    claims["acl"] = json!([{"effect": "deny", "actions": ["all"], "topics": ["mine/#"]}]);
    assert_eq!(allowed(&claims, with_rule), [false, true, true]);
    claims["acl"] = json!([]);
    assert_eq!(allowed(&claims, |_| {}), [false, false, false]);
    claims["acl"] = json!("everything");
    let broker = broker("", |_| {});
    assert_eq!(code(&broker, &login("c", "alice", &signed(&claims))), 0x86);
}

/// Everything below staff/ is for the members of staff, of whom carol is one.
pub(crate) fn staff_only(config: &mut Config) {
    let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect();
    config.acl.groups.push(tidewire::config::AclGroup {
        name: "staff".into(),
        members: words(&["carol"]),
    });
    config.acl.rules.push(tidewire::config::AclRule {
        groups: words(&["staff"]),
        actions: vec![tidewire::config::AclAction::All],
        topics: words(&["staff/#"]),
        ..Default::default()
    });
}

#[test]
fn a_token_may_name_the_groups_that_rules_are_about() {
    let broker = broker("", |config| {
        config.auth.jwt.groups_claim = "roles".into();
        staff_only(config);
    });
    let join = |user: &str, groups: Value| {
        let mut claims = alice(60);
        claims["sub"] = json!(user);
        claims["roles"] = groups;
        broker.connect(&login(user, user, &signed(&claims)))
    };
    for (user, groups, is_allowed) in [
        ("alice", json!(["drivers", "staff"]), true),
        ("alice", json!("staff"), true),
        ("alice", json!(["drivers"]), false),
        ("alice", json!([]), false),
        ("carol", json!(["drivers"]), true),
    ] {
        let (mut client, found) = join(user, groups.clone());
        assert_eq!(found, 0, "{user} {groups}");
        let allowed = subscribe(&mut client, "staff/a") < 0x80;
        assert_eq!(allowed, is_allowed, "{user} {groups}");
    }
    for groups in [
        json!(7),
        json!(null),
        json!({"staff": true}),
        json!(["staff", 7]),
    ] {
        assert_eq!(join("alice", groups.clone()).1, 0x86, "{groups}");
    }
    let (mut without, found) = broker.connect(&login("c", "alice", &signed(&alice(60))));
    assert_eq!(found, 0);
    assert!(subscribe(&mut without, "staff/a") >= 0x80);
}

#[test]
fn a_token_may_name_the_namespace_and_then_every_token_has_to() {
    let broker = broker(&users(), |config| {
        config.auth.jwt.namespace_claim = "tenant".into();
    });
    let join = |id: &str, tenant: Value| {
        let mut claims = alice(60);
        claims["tenant"] = tenant;
        broker.connect(&login(id, "alice", &signed(&claims)))
    };
    for tenant in [
        Value::Null,
        json!(""),
        json!("a/b"),
        json!("+"),
        json!("$SYS"),
        json!(7),
    ] {
        assert_eq!(join("c", tenant.clone()).1, 0x86, "{tenant}");
    }
    assert_eq!(
        code(&broker, &login("c", "alice", &signed(&alice(60)))),
        0x86
    );
    let (mut one, first) = join("c", json!("one"));
    let (mut two, second) = join("c", json!("two"));
    assert_eq!([first, second], [0, 0]);
    assert_eq!(subscribe(&mut two, "#"), 0);
    one.send_bytes(b"\x30\x05\0\x01a\0x");
    // The same client id of the other namespace has not taken the session over.
    one.ping();
    two.ping();
    let (mut whole, found) = broker.connect(&login("c", "bob", "secret"));
    assert_eq!(found, 0);
    assert_eq!(subscribe(&mut whole, "one/#"), 0);
    one.send_bytes(b"\x30\x05\0\x01a\0x");
    assert_eq!(whole.receive(), b"\x30\x09\0\x05one/a\0x");
}
