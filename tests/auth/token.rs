//! Which tokens are believed.

use base64ct::{Base64UrlUnpadded, Encoding};
use serde_json::{Value, json};
use tidewire::auth::{TokenError, Tokens};
use tidewire::config::{Jwt, JwtAlgorithm};

use super::token_signer::{SECRET, TempFile, signed, signed_with};

/// Made by PyJWT: see tests/interop/tokens.py.
const SAMPLES: &str = include_str!("tokens.json");
/// In 2026, in milliseconds.
const NOW: u64 = 1_795_000_000_000;
const SOON: u64 = 1_795_000_060;

struct Sample {
    algorithm: JwtAlgorithm,
    file: String,
    jwk: Value,
    token: String,
}

fn samples() -> Vec<Sample> {
    let samples: Vec<Value> = serde_json::from_str(SAMPLES).unwrap();
    assert_eq!(samples.len(), 12);
    let text = |it: &Value, name: &str| it[name].as_str().unwrap().to_owned();
    let read = |it: Value| Sample {
        algorithm: JwtAlgorithm::of_name(&text(&it, "algorithm")).unwrap(),
        file: text(&it, "file"),
        jwk: it["jwk"].clone(),
        token: text(&it, "token"),
    };
    samples.into_iter().map(read).collect()
}

fn hs256(change: impl FnOnce(&mut Jwt)) -> Tokens {
    let file = TempFile::new(SECRET);
    let mut config = file.jwt(JwtAlgorithm::Hs256);
    config.leeway_seconds = 0;
    change(&mut config);
    Tokens::load(&config).unwrap().unwrap()
}

fn refusal(tokens: &Tokens, token: &str) -> TokenError {
    tokens.check(token.as_bytes(), "c", NOW).unwrap_err()
}

#[test]
fn tokens_of_another_library_are_accepted_in_every_algorithm() {
    for sample in samples() {
        let file = TempFile::new(sample.file.as_bytes());
        let mut config = file.jwt(sample.algorithm);
        config.issuers = vec!["https://issuer.example".into()];
        config.audiences = vec!["broker".into()];
        let tokens = Tokens::load(&config).unwrap().unwrap();
        let claims = tokens.check(sample.token.as_bytes(), "c", NOW).unwrap();
        assert_eq!(&*claims.user_name, "alice", "{:?}", sample.algorithm);
        // One bit of the signature, and one of the payload.
        for place in [sample.token.len() - 6, sample.token.len() / 3] {
            let mut token = sample.token.clone().into_bytes();
            token[place] = if token[place] == b'A' { b'B' } else { b'A' };
            assert!(
                tokens.check(&token, "c", NOW).is_err(),
                "{:?}",
                sample.algorithm
            );
        }
    }
}

#[test]
fn a_key_set_chooses_the_key_by_its_id_and_fixes_the_algorithm() {
    let mut keys = Vec::new();
    for sample in samples() {
        let (name, mut key) = (sample.algorithm.name(), sample.jwk.clone());
        key["kid"] = json!(format!("key-{name}"));
        key["alg"] = json!(name);
        keys.push(key);
    }
    keys.push(json!({"kty": "RSA", "use": "enc", "kid": "other"}));
    keys.push(json!({"kty": "new", "alg": "XX9"}));
    let file = TempFile::new(json!({"keys": keys}).to_string().as_bytes());
    let config = Jwt {
        jwks_file: Some(file.0.clone()),
        ..Jwt::default()
    };
    let tokens = Tokens::load(&config).unwrap().unwrap();
    assert_eq!(tokens.key_count(), 12);
    for sample in samples() {
        let claims = tokens.check(sample.token.as_bytes(), "c", NOW);
        assert!(claims.is_ok(), "{:?}: {claims:?}", sample.algorithm);
    }
    let unknown = signed_with(
        SECRET,
        &json!({"alg": "HS256", "kid": "unknown"}),
        &json!({"sub": "alice", "exp": SOON}),
    );
    assert_eq!(refusal(&tokens, &unknown), TokenError::NoKey);
}

#[test]
fn a_token_without_signature_is_refused() {
    let tokens = hs256(|_| {});
    let part = |json: Value| Base64UrlUnpadded::encode_string(json.to_string().as_bytes());
    let claims = part(json!({"sub": "alice", "exp": SOON}));
    for algorithm in ["none", "None", "NONE", ""] {
        let token = format!("{}.{claims}.", part(json!({"alg": algorithm})));
        assert_eq!(refusal(&tokens, &token), TokenError::NoKey, "{algorithm}");
    }
    let token = format!("{}.{claims}.", part(json!({"alg": "HS256"})));
    assert_eq!(refusal(&tokens, &token), TokenError::Signature);
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    for sample in samples()
        .into_iter()
        .filter(|it| it.file.starts_with("-----"))
    {
        let file = TempFile::new(sample.file.as_bytes());
        let tokens = Tokens::load(&file.jwt(sample.algorithm)).unwrap().unwrap();
        for secret in [sample.file.as_str(), sample.file.trim()] {
            for algorithm in ["HS256", sample.algorithm.name()] {
                let header = json!({"alg": algorithm, "kid": "k"});
                let claims = json!({"sub": "alice", "exp": SOON});
                let token = signed_with(secret.as_bytes(), &header, &claims);
                assert!(
                    tokens.check(token.as_bytes(), "c", NOW).is_err(),
                    "{header}"
                );
            }
        }
        let error = Tokens::load(&file.jwt(JwtAlgorithm::Hs256)).unwrap_err();
        assert!(error.to_string().contains("HMAC needs a secret"), "{error}");
    }
}

#[test]
fn another_algorithm_than_that_of_the_key_is_refused() {
    let samples = samples();
    let rsa = samples
        .iter()
        .find(|it| it.algorithm == JwtAlgorithm::Rs256)
        .unwrap();
    let file = TempFile::new(rsa.file.as_bytes());
    let tokens = Tokens::load(&file.jwt(JwtAlgorithm::Rs512))
        .unwrap()
        .unwrap();
    assert_eq!(refusal(&tokens, &rsa.token), TokenError::NoKey);
    let error = Tokens::load(&file.jwt(JwtAlgorithm::Es256)).unwrap_err();
    assert!(error.to_string().contains("of another kind"), "{error}");
}

#[test]
fn times_of_a_token_are_obeyed() {
    let tokens = hs256(|_| {});
    let with = |claims: Value| tokens.check(signed(&claims).as_bytes(), "c", NOW);
    let claims = with(json!({"sub": "alice", "exp": SOON, "nbf": NOW / 1_000})).unwrap();
    assert_eq!(claims.expires_unix_ms, Some(SOON * 1_000));
    let exp = || TokenError::Claim("exp".into());
    for (claims, error) in [
        (json!({"sub": "a", "exp": NOW / 1_000}), TokenError::Expired),
        (json!({"sub": "a", "exp": 0}), TokenError::Expired),
        (json!({"sub": "a"}), exp()),
        (json!({"sub": "a", "exp": SOON.to_string()}), exp()),
        (json!({"sub": "a", "exp": null}), exp()),
        (json!({"sub": "a", "exp": -1}), exp()),
        (
            json!({"sub": "a", "exp": SOON, "nbf": SOON}),
            TokenError::NotYet,
        ),
        (
            json!({"sub": "a", "exp": SOON, "nbf": "0"}),
            TokenError::Claim("nbf".into()),
        ),
    ] {
        assert_eq!(with(claims.clone()), Err(error), "{claims}");
    }
    let lenient = hs256(|config| config.leeway_seconds = 5);
    let late = signed(&json!({"sub": "a", "exp": NOW / 1_000 - 4, "nbf": NOW / 1_000 + 4}));
    assert!(lenient.check(late.as_bytes(), "c", NOW).is_ok());
    let endless = hs256(|config| config.expiry_required = false);
    let token = signed(&json!({"sub": "a"}));
    assert!(endless.check(token.as_bytes(), "c", NOW).is_ok());
}

#[test]
fn issuer_audience_user_name_and_client_id_have_to_fit() {
    let tokens = hs256(|config| {
        config.issuers = vec!["i".into()];
        config.audiences = vec!["broker".into()];
    });
    let with = |change: Value| {
        let mut claims = json!({"sub": "alice", "exp": SOON, "iss": "i", "aud": "broker"});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        tokens.check(signed(&claims).as_bytes(), "c", NOW)
    };
    assert_eq!(
        with(json!({"client_id": "c"}))
            .unwrap()
            .client_id
            .as_deref(),
        Some("c")
    );
    let claim = |name: &str| TokenError::Claim(name.into());
    for (change, error) in [
        (json!({"iss": "j"}), TokenError::NotAccepted("iss")),
        (json!({"iss": ["i"]}), TokenError::NotAccepted("iss")),
        (json!({"iss": null}), TokenError::NotAccepted("iss")),
        (json!({"aud": "other"}), TokenError::NotAccepted("aud")),
        (json!({"aud": ["a", "b"]}), TokenError::NotAccepted("aud")),
        (json!({"aud": 1}), TokenError::NotAccepted("aud")),
        (json!({"sub": ""}), claim("sub")),
        (json!({"sub": 7}), claim("sub")),
        (json!({"sub": "a\nb"}), claim("sub")),
        (json!({"client_id": "d"}), TokenError::OtherClientId),
        (json!({"client_id": 1}), claim("client_id")),
    ] {
        assert_eq!(with(change.clone()), Err(error), "{change}");
    }
}

#[test]
fn malformed_tokens_are_refused_and_other_passwords_are_no_tokens() {
    let tokens = hs256(|_| {});
    let critical = signed_with(
        SECRET,
        &json!({"alg": "HS256", "crit": ["b64"], "b64": false}),
        &json!({"sub": "alice", "exp": SOON}),
    );
    assert_eq!(refusal(&tokens, &critical), TokenError::Critical);
    let list = signed_with(SECRET, &json!({"alg": "HS256"}), &json!([]));
    assert_eq!(refusal(&tokens, &list), TokenError::Malformed);
    let good = signed(&json!({"sub": "alice", "exp": SOON}));
    assert!(Tokens::is_token(good.as_bytes()));
    for end in 0..good.len() {
        assert!(
            tokens.check(&good.as_bytes()[..end], "c", NOW).is_err(),
            "{end}"
        );
    }
    for text in [
        "",
        ".",
        "..",
        "secret",
        "a.b.c",
        "192.168.0.1",
        "e30.e30.",
        "\u{1F600}..",
    ] {
        assert!(!Tokens::is_token(text.as_bytes()), "{text}");
        assert_ne!(refusal(&tokens, text), TokenError::Expired, "{text}");
    }
}

#[test]
fn unfit_key_files_are_refused_with_the_reason() {
    for (content, algorithm, part) in [
        ("short", JwtAlgorithm::Hs256, "shorter than its hash"),
        ("text", JwtAlgorithm::Rs256, "no public key in PEM"),
    ] {
        let file = TempFile::new(content.as_bytes());
        let error = Tokens::load(&file.jwt(algorithm)).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    for (content, part) in [
        ("", "EOF"),
        ("{}", "`keys` is missing"),
        (r#"{"keys": []}"#, "no key that signs"),
        (
            r#"{"keys": [{"kty": "oct", "alg": "HS256", "k": "YWJj"}]}"#,
            "keys.0",
        ),
        (
            r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#,
            "too short",
        ),
    ] {
        let file = TempFile::new(content.as_bytes());
        let config = Jwt {
            jwks_file: Some(file.0.clone()),
            ..Jwt::default()
        };
        let error = Tokens::load(&config).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
