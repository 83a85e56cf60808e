//! What a valid configuration should have otherwise: certificates that end, files that others may
//! read or change, passwords on their way in clear text.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::auth::{Validity, next_update};
use crate::bridge::warnings_of;
use crate::clock::Clock;
use crate::config::{Config, JwtAlgorithm, file_holds_secret, is_on_this_machine, masked_url};

/// Writes all of them to the log.
pub(super) fn log(file: Option<&Path>, config: &Config) {
    for warning in warnings(file, config) {
        tracing::warn!("{warning}");
    }
}

/// Shows all of them to whoever calls a command.
pub(super) fn show(file: Option<&Path>, config: &Config) -> io::Result<()> {
    let mut out = io::stderr().lock();
    warnings(file, config)
        .iter()
        .try_for_each(|warning| writeln!(out, "warning: {warning}"))
}

/// `file` is the one that the configuration was read from.
fn warnings(file: Option<&Path>, config: &Config) -> Vec<String> {
    let now = Clock::start().calendar_unix_ms() / 1_000;
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for listener in &config.listeners {
        for pair in &listener.certificates {
            found.extend(of_server_certificate(&pair.certificate, now));
        }
        let lists = listener.client_crl.iter();
        found.extend(lists.flat_map(|it| of_lists(it, now)));
    }
    let own = config.bridges.iter().filter(|it| it.enabled);
    let own = own.filter_map(|it| it.certificate.as_ref());
    let own = own.filter_map(|it| Some(of_validity(it, &validity(it)?, now)));
    found.extend(own.flatten());
    found.sort();
    found.dedup();
    found.extend(of_modes(file, config));
    for bridge in config.bridges.iter().filter(|it| it.enabled) {
        let words = warnings_of(bridge).into_iter();
        found.extend(words.map(|it| format!("bridge {:?}: {it}", bridge.name)));
    }
    let url = config.auth.http.url.as_deref().unwrap_or_default();
    if url.starts_with("http://") && !is_on_this_machine(url) {
        let url = masked_url(url);
        found.push(format!(
            "auth.http.url {url}: passwords travel in clear text; use https"
        ));
    }
    found
}

/// Of the first certificate of a chain, which is its owner's.
fn validity(file: &Path) -> Option<Validity> {
    let first = CertificateDer::pem_file_iter(file).ok()?.next()?.ok()?;
    Validity::of(&first)
}

fn of_server_certificate(file: &Path, now: i64) -> Vec<String> {
    let Some(validity) = validity(file) else {
        return Vec::new();
    };
    let mut found = of_validity(file, &validity, now);
    if !validity.is_for_servers {
        let name = file.display();
        found.push(format!("{name}: the certificate is not for servers"));
    }
    found
}

fn of_validity(file: &Path, validity: &Validity, now: i64) -> Vec<String> {
    let name = file.display();
    let Validity { begins, ends, .. } = validity;
    let mut found = Vec::new();
    if begins.unix_seconds > now {
        let date = &begins.date;
        found.push(format!(
            "{name}: the certificate is not valid before {date}"
        ));
    }
    if ends.unix_seconds <= now {
        found.push(format!(
            "{name}: the certificate has expired on {}",
            ends.date
        ));
    } else if ends.unix_seconds - now <= SOON_SECONDS {
        found.push(format!("{name}: the certificate expires on {}", ends.date));
    }
    found
}

/// The revocation lists of a file that are past their time.
fn of_lists(file: &Path, now: i64) -> Vec<String> {
    let lists = CertificateRevocationListDer::pem_file_iter(file);
    let lists = lists.into_iter().flatten().flatten();
    let ends = lists.filter_map(|it| next_update(&it));
    let past = ends.filter(|it| it.unix_seconds <= now);
    past.map(|it| {
        format!(
            "{}: a revocation list was to be replaced by {}; until then every client certificate \
             of its authority is refused, and a reload disconnects whoever came with one",
            file.display(),
            it.date
        )
    })
    .collect()
}

/// What others on this machine may do with files that they should not.
fn of_modes(file: Option<&Path>, config: &Config) -> Vec<String> {
    let secrets = secrets(file, config);
    let of_bridges = config
        .bridges
        .iter()
        .flat_map(|it| [&it.ca, &it.certificate]);
    let others = config.files().into_iter().chain(file);
    let others = others.chain(of_bridges.flatten().map(PathBuf::as_path));
    let all: BTreeSet<&Path> = secrets.keys().copied().chain(others).collect();
    let mut found = Vec::new();
    for file in all {
        let mode = fs::metadata(file).map_or(0, |it| it.permissions().mode());
        let name = file.display();
        if let Some(what) = secrets.get(file).filter(|_| mode & OTHERS_READ != 0) {
            found.push(format!("{name}: everyone on this machine can read {what}"));
        }
        if mode & OTHERS_WRITE != 0 {
            found.push(format!("{name}: everyone on this machine can change it"));
        }
    }
    found
}

/// The files that hold something nobody else may know, and what that is.
fn secrets<'c>(file: Option<&'c Path>, config: &'c Config) -> BTreeMap<&'c Path, &'static str> {
    let mut found = BTreeMap::new();
    let pairs = config.listeners.iter().flat_map(|it| &it.certificates);
    found.extend(pairs.map(|it| (it.key.as_path(), "the private key")));
    for bridge in &config.bridges {
        let key = bridge
            .key
            .iter()
            .map(|it| (it.as_path(), "the private key of a bridge"));
        let password = bridge.password_file.iter();
        let password = password.map(|it| (it.as_path(), "the password of a bridge"));
        found.extend(key.chain(password));
    }
    let users = config.auth.password_file.iter();
    found.extend(users.map(|it| (it.as_path(), "the password file")));
    let jwt = &config.auth.jwt;
    let is_secret = jwt.algorithm.is_some_and(JwtAlgorithm::is_hmac);
    let key = jwt.key_file.iter().filter(|_| is_secret);
    let set = jwt.jwks_file.iter().filter(|it| has_secret_keys(it));
    found.extend(
        key.chain(set)
            .map(|it| (it.as_path(), "the secret of tokens")),
    );
    let file = file.filter(|it| file_holds_secret(it));
    found.extend(file.map(|it| (it, "the secrets in the configuration")));
    found
}

/// Whether a key set has keys that both sign and check.
fn has_secret_keys(file: &Path) -> bool {
    fs::read_to_string(file).is_ok_and(|it| it.contains("\"oct\""))
}

const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;
/// What an operator needs to replace a certificate.
const SOON_SECONDS: i64 = 14 * 86_400;
