//! What a configuration names on this machine: certificates, users, owners, rules.

use std::fmt::Display;
use std::path::PathBuf;

use crate::auth::acl::{Acl, AclError};
use crate::auth::{HttpBackEnd, KeyError, PasswordFile, PasswordFileError, Tokens};
use crate::bridge::{self, BridgeError};
use crate::config::{Bridge, Broken, Config, Jwt, Listener};
use crate::net::door::check_certificates;
use crate::net::listener::check_owner;
use crate::net::tls::TlsError;

/// What the files of a configuration hold.
pub(super) struct Valid {
    pub(super) users: Option<PasswordFile>,
    pub(super) tokens: Option<Tokens>,
    pub(super) rules: Acl,
}

/// As [`read`], without what is in the files.
///
/// # Errors
///
/// The key that names the first one that cannot be used.
pub(super) fn check(config: &Config) -> Result<(), Broken> {
    read(config).map(drop)
}

/// Reads every file without changing anything.
///
/// # Errors
///
/// The key that names the first one that cannot be used.
pub(super) fn read(config: &Config) -> Result<Valid, Broken> {
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
    let bridges = config.bridges.iter().enumerate();
    for (index, bridge) in bridges.filter(|(_, it)| it.enabled) {
        bridge::check(bridge).map_err(|error| bridge_problem(index, bridge, &error))?;
    }
    let users = config.auth.password_file.as_deref();
    let jwt = &config.auth.jwt;
    Ok(Valid {
        users: users
            .map(PasswordFile::read)
            .transpose()
            .map_err(user_problem)?,
        tokens: Tokens::load(jwt).map_err(|error| key_problem(jwt, &error))?,
        rules: Acl::load(&config.acl).map_err(rule_problem)?,
    })
}

/// The key of a bridge that names what cannot be used.
fn bridge_problem(index: usize, bridge: &Bridge, error: &BridgeError) -> Broken {
    let files = [
        ("ca", &bridge.ca),
        ("certificate", &bridge.certificate),
        ("key", &bridge.key),
        ("password_file", &bridge.password_file),
    ];
    let is_named = |file: &PathBuf| error.problem.contains(&*file.to_string_lossy());
    let mut named = files
        .iter()
        .filter(|(_, file)| file.as_ref().is_some_and(is_named));
    let key = named.next().map_or("kind", |(key, _)| key);
    unusable(&format!("bridges.{index}.{key}"), &error.problem)
}

fn key_problem(jwt: &Jwt, error: &KeyError) -> Broken {
    let key = match error {
        KeyError::Authorities(_) => "jwks_ca_file",
        KeyError::Fetch { .. } => "jwks_url",
        KeyError::Read { file, .. } | KeyError::Unfit { file, .. } => {
            if jwt.key_file.as_ref() == Some(file) {
                "key_file"
            } else {
                "jwks_file"
            }
        }
    };
    unusable(&format!("auth.jwt.{key}"), error)
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

fn unusable(key: &str, error: &dyn Display) -> Broken {
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
