//! What a configuration names on this machine: certificates, users, owners, rules.

use crate::auth::acl::{Acl, AclError};
use crate::auth::{HttpBackEnd, PasswordFile, PasswordFileError};
use crate::config::{Broken, Config, Listener};
use crate::net::door::check_certificates;
use crate::net::listener::check_owner;
use crate::net::tls::TlsError;

/// Reads every file without changing anything.
///
/// # Errors
///
/// The key that names the first one that cannot be used.
pub(super) fn check(config: &Config) -> Result<(), Broken> {
    for (index, listener) in config.listeners.iter().enumerate() {
        let within = |(key, problem): (String, String)| Broken {
            key: format!("listeners.{index}.{key}"),
            problem,
        };
        check_certificates(listener)
            .map_err(|error| certificate_problem(listener, &error))
            .map_err(within)?;
        if let Some(owner) = &listener.unix_owner {
            let unknown = |error| ("unix_owner".to_owned(), format!("cannot be used: {error}"));
            check_owner(owner).map_err(unknown).map_err(within)?;
        }
    }
    HttpBackEnd::check_files(&config.auth.http)
        .map_err(|error| unusable("auth.http.ca_file", &error))?;
    if let Some(file) = &config.auth.password_file {
        PasswordFile::read(file).map_err(user_problem)?;
    }
    Acl::load(&config.acl).map(drop).map_err(rule_problem)
}

/// The key of a listener, and what is wrong with its file.
fn certificate_problem(listener: &Listener, error: &TlsError) -> (String, String) {
    let Some((path, reason)) = error.file() else {
        return ("certificates".into(), format!("cannot be used: {error}"));
    };
    let pairs = listener.certificates.iter().enumerate();
    let mut keys = pairs.flat_map(|(index, pair)| {
        let key = |name| format!("certificates.{index}.{name}");
        [
            (&pair.certificate, key("certificate")),
            (&pair.key, key("key")),
        ]
    });
    let key = keys.find(|(file, _)| *file == path).map(|(_, key)| key);
    let is_list = listener.client_crl.as_deref() == Some(path);
    let other = if is_list { "client_crl" } else { "client_ca" };
    let key = key.unwrap_or_else(|| other.into());
    (key, format!("cannot be used: {reason}"))
}

fn unusable(key: &str, error: &dyn std::error::Error) -> Broken {
    Broken {
        key: key.into(),
        problem: format!("cannot be used: {error}"),
    }
}

fn rule_problem(error: AclError) -> Broken {
    let (key, problem) = match error {
        AclError::File(error) => ("acl.file".into(), format!("cannot be used: {error}")),
        AclError::Rule {
            number,
            topic,
            problem,
        } => (
            format!("acl.rules.{number}.topics"),
            format!("cannot hold {topic:?}: {problem}"),
        ),
        AclError::Group { number, group } => (
            format!("acl.rules.{number}.groups"),
            format!("cannot hold {group:?}: it is not in acl.groups"),
        ),
    };
    Broken { key, problem }
}

fn user_problem(error: PasswordFileError) -> Broken {
    let reason = match error {
        PasswordFileError::Read { source, .. } => format!("cannot be read: {source}"),
        error => error.to_string(),
    };
    Broken {
        key: "auth.password_file".into(),
        problem: format!("cannot be used: {reason}"),
    }
}
