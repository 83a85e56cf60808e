//! `tidewire acl test`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::Arc;

use tidewire_protocol::topic::{DelayedTopic, Subscribable, Topic};

use super::arguments::{AclTestArguments, TestedAction};
use super::run::RunError;
use crate::auth::acl::{Acl, Action, Decision, Rights, Subject};
use crate::auth::{Namespaces, may_publish};
use crate::config::Config;
use crate::shard::mounted;

/// Says what decides about each right that is needed; true if all are there.
pub fn test(arguments: &AclTestArguments) -> Result<bool, RunError> {
    let config = arguments.config()?;
    let acl = Acl::load(&config.acl)?;
    let namespace = namespace_of(arguments, &config);
    let prefix = prefix(arguments, &config, namespace.as_deref())?;
    let rights = acl.rights(subject(arguments, namespace));
    let levels_max = config.limits.topic_levels_max;
    let asked = asked(arguments, prefix.as_deref(), levels_max)
        .and_then(|asked| check_own_topics(&rights, asked));
    let asked = match asked {
        Ok(asked) => asked,
        Err(why) => {
            writeln!(io::stdout(), "denied: {why}")?;
            return Ok(false);
        }
    };
    let mut is_allowed = true;
    for (action, topic) in asked {
        is_allowed &= explain(&acl, &rights, action, &topic)?;
    }
    Ok(is_allowed)
}

/// As a login finds it.
fn namespace_of(arguments: &AclTestArguments, config: &Config) -> Option<Arc<str>> {
    let (user, certificate) = (arguments.user.as_deref(), arguments.certificate.as_deref());
    let said = arguments.namespace.as_deref().map(Into::into);
    let namespaces = Namespaces::new(&config.auth.namespaces, None);
    said.or_else(|| namespaces.find(user, certificate, None))
}

/// What the broker puts before the topics of the client, which is said where there is something.
fn prefix(
    arguments: &AclTestArguments,
    config: &Config,
    namespace: Option<&str>,
) -> io::Result<Option<String>> {
    let mount_points = config.listeners.iter().map(|it| it.mount_point.as_deref());
    let mount_points: BTreeSet<_> = mount_points.collect();
    let only = mount_points.first().copied().flatten();
    let is_clear = arguments.mount_point.is_some() || mount_points.len() == 1;
    if !is_clear {
        let names: Vec<_> = mount_points.into_iter().flatten().collect();
        writeln!(
            io::stdout(),
            "some listeners have a mount point ({}): --mount-point says which one counts",
            names.join(", ")
        )?;
    }
    let mount_point = arguments.mount_point.as_deref();
    let mount_point = mount_point
        .or_else(|| only.filter(|_| is_clear))
        .unwrap_or_default();
    let namespace = namespace.map_or_else(String::new, |it| format!("{it}/"));
    let prefix = format!("{mount_point}{namespace}");
    if prefix.is_empty() {
        return Ok(None);
    }
    writeln!(io::stdout(), "all topics of the client are below {prefix}")?;
    Ok(Some(prefix))
}

fn subject(arguments: &AclTestArguments, namespace: Option<Arc<str>>) -> Subject {
    Subject {
        user_name: arguments.user.as_deref().map(Into::into),
        has_password: false,
        client_id: arguments.client.as_str().into(),
        certificate: arguments.certificate.as_deref().map(Into::into),
        groups: arguments
            .groups
            .iter()
            .map(|it| it.as_str().into())
            .collect(),
        namespace,
        address: arguments.address,
        ..Subject::default()
    }
}

/// The rights that are needed, about topics of the broker, or why no right helps.
fn asked<'a>(
    arguments: &'a AclTestArguments,
    prefix: Option<&str>,
    levels_max: usize,
) -> Result<Vec<(Action, Cow<'a, str>)>, String> {
    let within = |topic: &'a str| {
        mounted(prefix, topic).map_err(|_| format!("{topic} does not exist below a prefix"))
    };
    let topic = arguments.topic.as_str();
    let action = match arguments.action {
        TestedAction::Subscribe => {
            let parsed = Subscribable::parse(topic, levels_max).map_err(|it| it.to_string())?;
            let filter = within(parsed.filter().as_str())?;
            let is_shared = matches!(parsed, Subscribable::Shared { .. });
            let share = is_shared.then_some(Action::Share);
            let actions = std::iter::once(Action::Subscribe).chain(share);
            return Ok(actions.map(|it| (it, filter.clone())).collect());
        }
        TestedAction::Publish => Action::Publish,
        TestedAction::Receive => Action::Receive,
        TestedAction::Will => Action::Will,
    };
    let delayed = (action == Action::Publish).then(|| DelayedTopic::parse(topic, levels_max));
    let parsed = match delayed.flatten() {
        // What is published later is asked about now.
        Some(delayed) => delayed.map(|it| it.topic),
        None => Topic::parse(topic, levels_max),
    };
    let topic = parsed.map_err(|error| error.to_string())?.as_str();
    let is_sent = matches!(action, Action::Publish | Action::Will);
    if is_sent && !may_publish(topic) {
        return Err("no client publishes to the topics of the broker".into());
    }
    let topic = within(topic)?;
    let retain = (is_sent && arguments.retain).then(|| (Action::Retain, topic.clone()));
    Ok([(action, topic)].into_iter().chain(retain).collect())
}

/// What the broker says of itself is about all namespaces: only a rule opens it to one.
fn check_own_topics<T: AsRef<str>>(
    rights: &Rights,
    asked: Vec<(Action, T)>,
) -> Result<Vec<(Action, T)>, String> {
    let is_inside = rights.subject().namespace.is_some() && rights.is_everything();
    let is_own = |(action, topic): &(Action, T)| {
        *action == Action::Subscribe && topic.as_ref().starts_with("$SYS")
    };
    if is_inside && asked.iter().any(is_own) {
        return Err("a namespace sees $SYS only where a rule says so".into());
    }
    Ok(asked)
}

fn explain(acl: &Acl, rights: &Rights, action: Action, topic: &str) -> io::Result<bool> {
    let decision = rights.explain(action, topic);
    let verdict = if decision.is_allowed() {
        "allowed"
    } else {
        "denied"
    };
    let why = match decision {
        Decision::Everything if acl.has_rules() => "the user is a superuser".to_owned(),
        Decision::Everything => "there are no rules".to_owned(),
        Decision::NoRule => "no rule matches".to_owned(),
        Decision::Rule(_, number) => acl
            .rule(number)
            .map(ToString::to_string)
            .unwrap_or_default(),
    };
    let mut out = io::stdout().lock();
    writeln!(out, "{verdict}: {action} {topic}: {why}")?;
    if action == Action::Subscribe && decision.is_allowed() && !rights.receives_all(topic) {
        writeln!(out, "  what is received is checked topic by topic")?;
    }
    Ok(decision.is_allowed())
}
