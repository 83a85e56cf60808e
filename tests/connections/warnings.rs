//! What `tidewire check` warns of: certificates that end, files that others may use, passwords in
//! clear text.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, date_time_ymd};
use tidewire::config::Certificate;

use crate::broker::folder;
use crate::certificates::Authority;

/// What it says of a valid configuration, whose file only its owner can read.
fn warnings(config: &str) -> String {
    let file = write("config.toml", config);
    checked(&file)
}

fn write(name: &str, text: &str) -> PathBuf {
    let file = folder("warnings").join(name);
    std::fs::write(&file, text).unwrap();
    set_mode(&file, 0o600);
    file
}

fn set_mode(file: &Path, mode: u32) {
    set_permissions(file, Permissions::from_mode(mode)).unwrap();
}

fn checked(file: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
    let output = command.arg("check").arg("-c").arg(file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    said
}

fn tls(pair: &Certificate, more: &str) -> String {
    for file in [&pair.certificate, &pair.key] {
        set_mode(file, 0o600);
    }
    format!(
        "[[listeners]]\nbind = \"127.0.0.1:0\"\ntransport = \"tls\"\n{more}\
         [[listeners.certificates]]\ncertificate = {:?}\nkey = {:?}\n",
        pair.certificate, pair.key
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "the program looks at the calendar of the machine"
)]
fn in_days(params: &mut CertificateParams, days: u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    params.not_after = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(days * 86_400);
}

#[test]
fn a_stale_certificate_of_the_server_is_warned_of() {
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
    let authority = Authority::new();
    let expired = authority.sign("expired", ServerAuth, |params| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 2, 3);
    });
    let early = authority.sign("early", ServerAuth, |params| {
        params.not_before = date_time_ymd(2900, 1, 1);
        params.not_after = date_time_ymd(2901, 1, 1);
    });
    let soon = authority.sign("soon", ServerAuth, |params| in_days(params, 13));
    let later = authority.sign("later", ServerAuth, |params| in_days(params, 15));
    let client = authority.sign("client", ClientAuth, |_| {});
    for (pair, expected) in [
        (expired, "has expired on 2021-02-03"),
        (early, "is not valid before 2900-01-01"),
        (soon, "expires on 20"),
        (client, "is not for servers"),
    ] {
        let said = warnings(&tls(&pair, ""));
        let line = format!("{}: the certificate {expected}", pair.certificate.display());
        assert!(said.contains(&line) && said.lines().count() == 1, "{said}");
    }
    assert_eq!(warnings(&tls(&later, "")), "");
}

#[test]
fn a_revocation_list_past_its_time_is_warned_of() {
    let authority = Authority::new();
    let pair = authority.server("localhost");
    set_mode(&authority.file, 0o600);
    for (end_year, lines) in [(2021, 1), (2900, 0)] {
        let list = authority.revoke(8, end_year);
        set_mode(&list, 0o600);
        let more = format!(
            "client_ca = {:?}\nclient_certificates = \"required\"\nclient_crl = {list:?}\n",
            authority.file
        );
        let said = warnings(&tls(&pair, &more));
        assert_eq!(said.lines().count(), lines, "{said}");
        let is_named = said.contains("replaced by 2021-01-01; until then every client certificate");
        assert_eq!(is_named, lines > 0, "{said}");
    }
}

#[test]
fn files_that_others_can_read_or_change_are_warned_of() {
    let authority = Authority::new();
    let pair = authority.server("localhost");
    let users = write("users", "alice:$7$101$c2FsdHNhbHRzYWx0$AAAA\n");
    let acl = write("acl", "topic #\n");
    let hash = "$6$c2FsdHNhbHQ=$";
    let hash = format!("alice:{hash}{}==\n", "A".repeat(86));
    std::fs::write(&users, hash).unwrap();
    let config =
        tls(&pair, "") + &format!("[auth]\npassword_file = {users:?}\n[acl]\nfile = {acl:?}\n");
    let read = "can read";
    let change = "can change it";
    for (file, mode, expected) in [
        (&users, 0o600, vec![]),
        (&users, 0o604, vec![read]),
        (&users, 0o622, vec![change]),
        (&users, 0o666, vec![read, change]),
        (&users, 0o660, vec![]),
        (&acl, 0o644, vec![]),
        (&acl, 0o646, vec![change]),
        (&pair.key, 0o644, vec![read]),
        (&pair.key, 0o602, vec![change]),
        (&pair.certificate, 0o644, vec![]),
        (&pair.certificate, 0o666, vec![change]),
    ] {
        let path = write("config.toml", &config);
        set_mode(file, mode);
        let said = checked(&path);
        set_mode(file, 0o600);
        let lines: Vec<&str> = said.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{mode:o}: {said}");
        for (line, what) in lines.iter().zip(expected) {
            let start = format!(
                "warning: {}: everyone on this machine {what}",
                file.display()
            );
            assert!(line.starts_with(&start), "{mode:o}: {said}");
        }
    }
}

#[test]
fn a_configuration_that_holds_a_secret_is_one() {
    let listener = "[[listeners]]\nbind = \"127.0.0.1:0\"\n";
    let plain = "[auth.http]\nurl = \"https://localhost/login\"\n";
    for (lines, is_secret) in [
        (plain.to_owned(), false),
        (plain.to_owned() + "authorization = \"Bearer us\"\n", true),
        (plain.replace("localhost", "us:them@localhost"), true),
    ] {
        let file = write("config.toml", &(listener.to_owned() + &lines));
        set_mode(&file, 0o644);
        let said = checked(&file);
        let line = "everyone on this machine can read the secrets in the configuration";
        assert_eq!(said.contains(line), is_secret, "{said}");
        assert!(!said.contains("can change"), "{said}");
        set_mode(&file, 0o602);
        assert!(checked(&file).contains("can change it"));
    }
}

#[test]
fn passwords_that_travel_in_clear_text_are_warned_of() {
    for (url, is_clear) in [
        ("http://login.example/mqtt", true),
        ("http://us:them@login.example/mqtt", true),
        ("https://login.example/mqtt", false),
        ("http://127.0.0.1:8080/mqtt", false),
    ] {
        let listener = "[[listeners]]\nbind = \"127.0.0.1:0\"\n";
        let said = warnings(&format!("{listener}[auth.http]\nurl = \"{url}\"\n"));
        assert_eq!(said.contains("travel in clear text"), is_clear, "{said}");
        assert!(!said.contains("them"), "{said}");
    }
}

#[test]
fn bridges_are_warned_of_and_refused_with_the_line_of_the_file_that_is_not_there() {
    let config = |scheme: &str, line: &str| {
        format!(
            "[[bridges]]\nname = \"up\"\nservers = [\"{scheme}://localhost\"]\n{line}\n\
             [[bridges.out]]\nfilters = [\"a/#\"]\ntopic = \"b/{{2}}\"\n"
        )
    };
    let said = warnings(&config("mqtt", "session_expiry_seconds = 30"));
    for warning in [
        "bridge \"up\": session_expiry_seconds = 30 is shorter than",
        "bridge \"up\": out.0.topic: {2} is missing in some topics of `a/#`",
    ] {
        assert!(said.contains(warning), "{said}");
    }
    let file = write("bridge.toml", &config("mqtts", "ca = \"/nowhere/ca.crt\""));
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
    let output = command.arg("check").arg("-c").arg(file).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains("bridge.toml:4: `bridges.0.ca` cannot be used: /nowhere/ca.crt"),
        "{said}"
    );
}
