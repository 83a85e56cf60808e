use super::*;

// The example of RFC 7677 section 3: user "user", password "pencil".
const CLIENT_FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_NONCE: &str = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                            p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

fn verifier() -> ScramVerifier {
    let salt = Base64::decode_vec("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
    ScramVerifier::new(b"pencil", &salt, NonZeroU32::new(4_096).expect("not zero"))
}

fn begin() -> Exchange {
    let first = ClientFirst::read(CLIENT_FIRST).expect("valid");
    assert_eq!(first.user_name, "user");
    let (exchange, answer) = Exchange::begin(&first, verifier(), SERVER_NONCE);
    assert_eq!(answer, SERVER_FIRST);
    exchange
}

#[test]
fn the_example_of_rfc_7677_succeeds() {
    let answer = begin().finish(CLIENT_FINAL.as_bytes());
    assert_eq!(answer.as_deref(), Ok(SERVER_FINAL));
}

#[test]
fn a_wrong_proof_fails() {
    let wrong = CLIENT_FINAL.replace("p=dH", "p=dX");
    assert_eq!(begin().finish(wrong.as_bytes()), Err(ScramError::Proof));
}

#[test]
fn a_message_of_another_exchange_fails() {
    for wrong in [
        CLIENT_FINAL.replace("biws", "eSws"),
        CLIENT_FINAL.replace("r=rOpr", "r=rOpq"),
    ] {
        let answer = begin().finish(wrong.as_bytes());
        assert_eq!(answer, Err(ScramError::OtherExchange), "{wrong}");
    }
}

#[test]
fn malformed_last_messages_fail() {
    let valid = CLIENT_FINAL;
    for (wrong, expected) in [
        (String::new(), ScramError::Attribute("proof")),
        (valid.replace(",p=", ",q="), ScramError::Attribute("proof")),
        (valid.replace("ndVQ=", ""), ScramError::Attribute("proof")),
        (valid.replace("c=", "d="), ScramError::Attribute("header")),
        (valid.replace(",r=", ",s="), ScramError::Attribute("nonce")),
        ("x".repeat(5_000), ScramError::Message),
    ] {
        assert_eq!(begin().finish(wrong.as_bytes()), Err(expected), "{wrong}");
    }
}

#[test]
fn malformed_first_messages_fail() {
    for (message, expected) in [
        (&b""[..], ScramError::Attribute("header")),
        (b"n,", ScramError::Attribute("header")),
        (b"x,,n=user,r=abc", ScramError::Attribute("header")),
        (b"p=tls-unique,,n=user,r=abc", ScramError::ChannelBinding),
        (b"n,,m=must,n=user,r=abc", ScramError::Extension),
        (b"n,a=root,n=user,r=abc", ScramError::Authorization),
        (b"n,root,n=user,r=abc", ScramError::Authorization),
        (b"n,,user,r=abc", ScramError::Attribute("user name")),
        (b"n,,n=,r=abc", ScramError::Attribute("user name")),
        (b"n,,n=a=b,r=abc", ScramError::Attribute("user name")),
        (b"n,,n=user", ScramError::Attribute("nonce")),
        (b"n,,n=user,r=", ScramError::Attribute("nonce")),
        (b"n,,n=user,r=a b", ScramError::Attribute("nonce")),
        (b"n,,n=\xff,r=abc", ScramError::Message),
    ] {
        assert_eq!(ClientFirst::read(message), Err(expected), "{message:?}");
    }
}

#[test]
fn names_may_hold_commas_and_equals_signs() {
    let first = ClientFirst::read(b"y,a=a=2Cb=3D,n=a=2Cb=3D,r=abc,x=later").expect("valid");
    assert_eq!(first.user_name, "a,b=");
    assert_eq!(first.gs2_header, "y,a=a=2Cb=3D,");
}

#[test]
fn a_verifier_survives_the_file() {
    let text = verifier().to_string();
    assert!(text.starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"));
    assert_eq!(text.parse(), Ok(verifier()));
    for wrong in [
        "",
        "SCRAM-SHA-1$4096:W22ZaJ0SNY7soEsUEjb6gQ==$a:b",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$YQ==:YQ==",
        "SCRAM-SHA-256$4096",
    ] {
        assert_eq!(
            wrong.parse::<ScramVerifier>(),
            Err(ScramVerifierError),
            "{wrong}"
        );
    }
    let no_rounds = text.replace("4096", "0").parse::<ScramVerifier>();
    assert_eq!(no_rounds, Err(ScramVerifierError));
}

#[test]
fn a_decoy_looks_the_same_each_time_and_lets_nobody_in() {
    let decoy = verifier().decoy(b"secret", "nobody");
    assert_eq!(decoy, verifier().decoy(b"secret", "nobody"));
    assert_ne!(decoy, verifier().decoy(b"secret", "somebody"));
    assert_eq!(decoy.salt.len(), verifier().salt.len());
    let first = ClientFirst::read(CLIENT_FIRST).expect("valid");
    let (exchange, _) = Exchange::begin(&first, decoy, SERVER_NONCE);
    assert_eq!(
        exchange.finish(CLIENT_FINAL.as_bytes()),
        Err(ScramError::Proof)
    );
}
