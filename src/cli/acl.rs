//! `tidewire acl test`.

use std::io::{self, Write};

use tidewire_protocol::topic::{Subscribable, Topic};

use super::arguments::{AclTestArguments, TestedAction};
use super::run::RunError;
use crate::auth::acl::{Acl, Action, Decision, Rights, Subject};
use crate::auth::may_publish;

/// Says what decides about each right that is needed; true if all are there.
pub fn test(arguments: &AclTestArguments) -> Result<bool, RunError> {
    let config = arguments.config()?;
    let acl = Acl::load(&config.acl)?;
    let rights = acl.rights(subject(arguments));
    let levels_max = config.limits.topic_levels_max;
    let asked = match asked(arguments, levels_max) {
        Ok(asked) => asked,
        Err(why) => {
            writeln!(io::stdout(), "denied: {why}")?;
            return Ok(false);
        }
    };
    let mut is_allowed = true;
    for (action, topic) in asked {
        is_allowed &= explain(&acl, &rights, action, topic)?;
    }
    Ok(is_allowed)
}

fn subject(arguments: &AclTestArguments) -> Subject {
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
        address: arguments.address,
        ..Subject::default()
    }
}

/// The rights that are needed, or why no right helps.
fn asked(arguments: &AclTestArguments, levels_max: usize) -> Result<Vec<(Action, &str)>, String> {
    let topic = arguments.topic.as_str();
    let is_sent = matches!(arguments.action, TestedAction::Publish | TestedAction::Will);
    if arguments.action != TestedAction::Subscribe {
        Topic::parse(topic, levels_max).map_err(|error| error.to_string())?;
    }
    if is_sent && !may_publish(topic) {
        return Err("no client publishes to the topics of the broker".into());
    }
    let retain = (is_sent && arguments.retain).then_some((Action::Retain, topic));
    let mut asked = match arguments.action {
        TestedAction::Publish => vec![(Action::Publish, topic)],
        TestedAction::Will => vec![(Action::Will, topic)],
        TestedAction::Receive => vec![(Action::Receive, topic)],
        TestedAction::Subscribe => {
            let parsed = Subscribable::parse(topic, levels_max).map_err(|it| it.to_string())?;
            let filter = parsed.filter().as_str();
            let is_shared = matches!(parsed, Subscribable::Shared { .. });
            let share = is_shared.then_some((Action::Share, filter));
            std::iter::once((Action::Subscribe, filter))
                .chain(share)
                .collect()
        }
    };
    asked.extend(retain);
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
