//! Rules and what they decide.

use std::path::Path;

use super::*;
use crate::config::{AclAction, AclEffect, AclGroup, Network};

fn subject(user_name: Option<&str>, client_id: &str) -> Subject {
    Subject {
        user_name: user_name.map(Arc::from),
        client_id: client_id.into(),
        ..Subject::default()
    }
}

fn words(list: &[&str]) -> Vec<String> {
    list.iter().map(|it| (*it).to_owned()).collect()
}

fn rule(effect: AclEffect, actions: &[AclAction], topics: &[&str]) -> AclRule {
    AclRule {
        effect,
        actions: actions.to_vec(),
        topics: words(topics),
        ..AclRule::default()
    }
}

fn acl(rules: Vec<AclRule>) -> Acl {
    let config = config::Acl {
        rules,
        ..config::Acl::default()
    };
    Acl::load(&config).expect("rules")
}

fn of_file(text: &str) -> Acl {
    let mut acl = Acl::of(file::parse(Path::new("acl"), text).expect("rules"));
    acl.reach = Some(Reach::Part);
    acl
}

#[test]
fn without_rules_everything_is_allowed_and_with_one_nothing_else_is() {
    let anyone = subject(None, "c");
    assert!(Acl::default().allows(&anyone, Action::Publish, "a"));
    assert!(acl(Vec::new()).allows(&anyone, Action::Publish, "a"));
    let acl = acl(vec![rule(AclEffect::Allow, &[AclAction::Publish], &["a"])]);
    assert!(acl.allows(&anyone, Action::Publish, "a"));
    assert!(!acl.allows(&anyone, Action::Publish, "b"));
    for action in [
        Action::Subscribe,
        Action::Receive,
        Action::Will,
        Action::Retain,
    ] {
        assert!(!acl.allows(&anyone, action, "a"), "{action}");
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    use AclEffect::{Allow, Deny};
    let all = [AclAction::All];
    let acl = acl(vec![
        rule(Allow, &all, &["a/open"]),
        rule(Deny, &all, &["a/+"]),
        rule(Allow, &all, &["a/#", "b"]),
        rule(Deny, &all, &["b"]),
    ]);
    let rights = acl.rights(subject(None, "c"));
    for (topic, is_allowed) in [
        ("a/open", true),
        ("a/other", false),
        ("a", true),
        ("a/x/y", true),
        ("b", true),
        ("c", false),
        ("$SYS/a", false),
    ] {
        assert_eq!(rights.allows(Action::Publish, topic), is_allowed, "{topic}");
    }
    assert_eq!(
        rights.explain(Action::Publish, "a/other"),
        Decision::Rule(Deny, 1)
    );
}

#[test]
fn every_condition_of_a_rule_has_to_hold() {
    let mut narrow = rule(AclEffect::Allow, &[AclAction::All], &["#"]);
    narrow.users = words(&["alice"]);
    narrow.groups = words(&["staff"]);
    narrow.clients = words(&["c1"]);
    narrow.certificates = words(&["device"]);
    narrow.addresses = vec![Network::parse("10.0.0.0/8").expect("a network")];
    let config = config::Acl {
        groups: vec![AclGroup {
            name: "staff".into(),
            members: words(&["bob"]),
        }],
        rules: vec![narrow],
        ..config::Acl::default()
    };
    let acl = Acl::load(&config).expect("rules");
    let whole = Subject {
        certificate: Some("device".into()),
        address: "10.1.2.3".parse().ok(),
        ..subject(Some("alice"), "c1")
    };
    let allows = |change: fn(&mut Subject)| {
        let mut subject = whole.clone();
        change(&mut subject);
        acl.allows(&subject, Action::Publish, "a")
    };
    assert!(allows(|_| {}));
    assert!(allows(|it| it.user_name = Some("bob".into())));
    assert!(allows(|it| {
        it.user_name = Some("carol".into());
        it.groups = Arc::from([Box::from("staff")]);
    }));
    assert!(!allows(|it| it.user_name = Some("Alice".into())));
    assert!(!allows(|it| it.user_name = None));
    assert!(!allows(|it| it.client_id = "c2".into()));
    assert!(!allows(|it| it.certificate = None));
    assert!(!allows(|it| it.address = "11.0.0.1".parse().ok()));
    assert!(!allows(|it| it.address = None));
}

#[test]
fn names_with_a_meaning_in_topics_widen_nothing() {
    let acl = of_file("pattern readwrite d/%c/%u\npattern readwrite %c/#\n");
    let topics = [
        "d/a/u",
        "d/x/y",
        "d//u",
        "a",
        "x/y",
        "$SYS/broker",
        "d/+/u",
        "#",
    ];
    for name in [
        "+", "#", "a/b", "/", "$SYS", "a\nb", "", ".*", "%c", "%u", "\\", "^a$", "a|b",
    ] {
        for (user, client) in [(Some(name), "a"), (Some("u"), name), (Some(name), name)] {
            let rights = acl.rights(subject(user, client));
            for topic in topics {
                let mine = topic == format!("d/{client}/{}", user.unwrap_or_default())
                    || topic.split('/').next() == Some(client);
                let is_allowed = rights.allows(Action::Receive, topic);
                assert!(
                    !is_allowed || (mine && pattern::can_be_level(client)),
                    "{name:?} {topic}"
                );
                assert!(!rights.receives_all("#"));
                assert!(!rights.receives_all("d/#"));
            }
        }
    }
    assert!(acl.allows(&subject(Some("u"), "a"), Action::Publish, "d/a/u"));
    assert!(!acl.allows(&subject(None, "a"), Action::Publish, "d/a/u"));
}

#[test]
fn a_subscription_needs_a_rule_for_all_of_it_or_for_a_part() {
    use AclEffect::{Allow, Deny};
    let rules = vec![
        rule(Deny, &[AclAction::All], &["a/secret"]),
        rule(Allow, &[AclAction::Read], &["a/+", "b/#"]),
    ];
    let strict = config::Acl {
        rules: rules.clone(),
        wide_subscriptions: WideSubscriptions::Refuse,
        ..config::Acl::default()
    };
    let strict = Acl::load(&strict)
        .expect("rules")
        .rights(subject(None, "c"));
    let wide = acl(rules).rights(subject(None, "c"));
    for (filter, in_wide, in_strict, has_all) in [
        ("a/x", true, true, true),
        ("a/secret", false, false, false),
        ("a/+", true, true, false),
        ("#", true, false, false),
        ("b/#", true, true, true),
        ("b/+/c", true, true, true),
        ("c/#", false, false, false),
        ("+/x", true, false, false),
    ] {
        assert_eq!(
            wide.allows_filter(Action::Subscribe, filter),
            in_wide,
            "{filter}"
        );
        assert_eq!(
            strict.allows_filter(Action::Subscribe, filter),
            in_strict,
            "{filter}"
        );
        assert_eq!(wide.receives_all(filter), has_all, "{filter}");
    }
}

#[test]
fn a_file_of_mosquitto_means_what_it_means_there() {
    let acl = of_file(
        "# comment\n\ntopic read open/#\nuser alice\ntopic a/#\ntopic deny a/secret\n\
         topic write w\nuser bob smith\ntopic read  a b \npattern read status/%c\n",
    );
    let allows = |user, action, topic| acl.allows(&subject(user, "c1"), action, topic);
    use Action::{Publish, Receive, Subscribe};
    assert!(allows(None, Receive, "open/x"));
    assert!(!allows(None, Publish, "open/x"));
    assert!(!allows(Some("alice"), Receive, "open/x"));
    assert!(allows(Some("alice"), Publish, "a/x"));
    assert!(!allows(Some("alice"), Receive, "a/secret"));
    assert!(allows(Some("alice"), Publish, "w"));
    assert!(!allows(Some("alice"), Subscribe, "w"));
    assert!(allows(Some("bob smith"), Receive, "a b"));
    assert!(allows(Some("alice"), Receive, "status/c1"));
    assert!(allows(None, Receive, "status/c1"));
    assert!(!allows(None, Receive, "status/c2"));
    let rights = acl.rights(subject(Some("alice"), "c1"));
    let Decision::Rule(Effect::Deny, number) = rights.explain(Receive, "a/secret") else {
        unreachable!("denied by a rule")
    };
    assert_eq!(
        acl.rule(number).map(ToString::to_string).as_deref(),
        Some("acl:6 (deny a/secret)")
    );
}

#[test]
fn an_acl_file_that_is_empty_or_malformed_is_refused_with_its_line() {
    for (text, error) in [
        ("", "ACL file acl: has no rule"),
        ("# only\n\n#comments\n", "ACL file acl: has no rule"),
        ("user alice\n", "ACL file acl: has no rule"),
        (
            "topic a\nallow b\n",
            "acl:2: expected `user`, `topic` or `pattern`",
        ),
        (
            "topic read\n",
            "acl:1: expected `[read|write|readwrite|deny] FILTER`",
        ),
        (
            "topic\n",
            "acl:1: expected `[read|write|readwrite|deny] FILTER`",
        ),
        ("user\n", "acl:1: expected `user NAME`"),
        (
            "topic dney secret/#\n",
            "acl:1: expected `read`, `write`, `readwrite` or `deny`",
        ),
        (
            "pattern READ a\n",
            "acl:1: expected `read`, `write`, `readwrite` or `deny`",
        ),
        ("topic read a/#/b\n", "acl:1: the topic filter is not valid"),
        ("pattern a%c\n", "acl:1: %u and %c must be whole levels"),
        ("topic a/%u\n", "acl:1: %u and %c are for `pattern`"),
        ("topic a\ntopic read se", "acl:2: the last line has no end"),
        ("topic a\0b\n", "acl:1: the topic filter is not valid"),
    ] {
        let found = file::parse(Path::new("acl"), text)
            .expect_err(text)
            .to_string();
        assert!(found.starts_with(error), "{text:?}: {found}");
    }
    let missing = Path::new("/nonexistent/acl");
    let config = config::Acl {
        file: Some(missing.to_owned()),
        ..config::Acl::default()
    };
    let found = Acl::load(&config).expect_err("no file").to_string();
    assert!(
        found.starts_with("ACL file /nonexistent/acl: cannot be read"),
        "{found}"
    );
}

#[test]
fn clients_under_the_same_rules_share_their_set() {
    let acl = of_file("user alice\ntopic a\nuser bob\ntopic b\npattern %c\n");
    let set = |user: &str, client: &str| {
        let rights = acl.rights(subject(Some(user), client));
        rights.shared_set().expect("rules")
    };
    let alice = set("alice", "1");
    assert!(Arc::ptr_eq(&alice, &set("alice", "2")));
    assert!(!Arc::ptr_eq(&alice, &set("bob", "1")));
}

/// Run with `--release -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn the_cost_of_asking_at_a_thousand_rules() {
    let lines = (0..998).map(|number| format!("topic readwrite site/{number}/+/state\n"));
    let lines: String = lines.collect();
    let text = format!("{lines}pattern readwrite client/%c/#\ntopic deny #\n");
    let acl = of_file(&text);
    let clock = crate::clock::Clock::start();
    let rights = acl.rights(subject(None, "c1"));
    for topic in [
        "site/7/door/state",
        "site/997/door/state",
        "client/c1/a/b",
        "other/a/b/c",
    ] {
        let rounds = 1_000_000;
        let begin_us = clock.now_us();
        let allowed = (0..rounds)
            .filter(|_| rights.allows(Action::Publish, std::hint::black_box(topic)))
            .count();
        let spent_us = clock.now_us() - begin_us;
        assert!(allowed == 0 || allowed == rounds);
        let nanoseconds = spent_us * 1_000 / rounds as u64;
        println!("{topic}: {nanoseconds} ns");
        assert!(nanoseconds < 20_000);
    }
}
