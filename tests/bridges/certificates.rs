//! Certificates of an authority of its own, some of which have expired.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::client::Client;
use crate::process::{Broker, free_port};

/// Writes the authority `ca.crt`, and certificates with their keys: `server` for localhost,
/// `client`, and the same as `expired-server` and `expired-client`. The `.pem` of each has both in
/// one file, as Java reads them.
pub(crate) fn make(directory: &Path) {
    let mut authority = CertificateParams::new(Vec::new()).expect("no names");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let named = &mut authority.distinguished_name;
    named.push(DnType::CommonName, "authority of a test");
    let key = KeyPair::generate().expect("a key");
    let certificate = authority.self_signed(&key).expect("signed");
    std::fs::write(directory.join("ca.crt"), certificate.pem()).expect("written");
    let issuer = Issuer::new(authority, key);
    for kind in ["server", "client"] {
        for has_expired in [false, true] {
            write_leaf(directory, kind, has_expired, &issuer);
        }
    }
}

fn write_leaf(directory: &Path, kind: &str, has_expired: bool, issuer: &Issuer<'_, KeyPair>) {
    let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
    let mut leaf = CertificateParams::new(names).expect("names");
    leaf.distinguished_name.push(DnType::CommonName, kind);
    leaf.use_authority_key_identifier_extension = true;
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![match kind {
        "server" => ExtendedKeyUsagePurpose::ServerAuth,
        _ => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    let mut file = kind.to_owned();
    if has_expired {
        leaf.not_after = date_time_ymd(2020, 1, 1);
        file.insert_str(0, "expired-");
    }
    let key = KeyPair::generate().expect("a key");
    let certificate = leaf.signed_by(&key, issuer).expect("signed").pem();
    let key = key.serialize_pem();
    let write = |end: &str, text: &str| {
        let path = directory.join(format!("{file}.{end}"));
        std::fs::write(path, text).expect("written");
    };
    write("crt", &certificate);
    write("key", &key);
    write("pem", &(key + &certificate));
}

/// The keys of a bridge that trusts the authority and shows one of the certificates.
pub(crate) fn showing(directory: &Path, name: &str) -> String {
    let file = |name: &str| directory.join(name).display().to_string();
    format!(
        "ca = \"{}\"\ncertificate = \"{}\"\nkey = \"{}\"",
        file("ca.crt"),
        file(&format!("{name}.crt")),
        file(&format!("{name}.key"))
    )
}

/// State and log of a bridge `up` with this configuration say that it is down for this reason.
pub(crate) fn expect_down(config: &str, words: &str) {
    let ours = Broker::tidewire(free_port(), config);
    let mut watcher = Client::connect(&ours, "watcher");
    let state = "$SYS/bridges/up/state";
    let said = watcher.subscribe(state).wait_for(state, words).payload;
    assert!(said.contains("\"state\":\"down\""), "{said}");
    let log = ours.log();
    // The attempt before may have ended before the server could say why.
    let mut lines = log.lines().filter(|it| it.contains("bridge is down"));
    assert!(lines.any(|it| it.contains(words)), "{log}");
}

/// What is said of a server whose certificate has expired.
pub(crate) const THEIRS_EXPIRED: &str = "invalid peer certificate: certificate expired";
/// What is said of ours, if the server does not say why it refuses it (Java does not).
#[cfg(feature = "amqp10")]
pub(crate) const OURS_REFUSED: &str = "the server refuses our certificate: received fatal alert";
/// What is said when a server finds that ours has expired.
pub(crate) const OURS_EXPIRED: &str =
    "the server refuses our certificate: received fatal alert: CertificateExpired";
