//! Who clients are.

use std::path::PathBuf;

use super::Secret;

/// How clients prove who they are, on every listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The users and what is kept of their passwords; `None` if no password is checked.
    pub password_file: Option<PathBuf>,
    /// Threads that compute password hashes, 0 = a quarter of the cores.
    pub hashing_threads: u16,
    /// Who may take a session over from the user that had it last.
    pub session_takeover: SessionTakeover,
    /// What credentials are shown to, one after the other until one decides; what is not set up is
    /// passed over.
    pub order: Vec<Authentication>,
    /// Signed tokens.
    pub jwt: Jwt,
    /// A server that is asked.
    pub http: Http,
    /// Whose clients live in a part of the topics; the first that holds a client counts.
    pub namespaces: Vec<Namespace>,
}

/// Clients that live in a part of the topics of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    /// The level before all their topics.
    pub name: String,
    /// User names.
    pub users: Vec<String>,
    /// Names in client certificates.
    pub certificates: Vec<String>,
    /// Organizations (O) in client certificates.
    pub organizations: Vec<String>,
    /// Organizational units (OU) in client certificates.
    pub organizational_units: Vec<String>,
    /// Open connections; `None` counts none.
    pub connections_max: Option<u32>,
    /// Sessions; `None` has no limit.
    pub sessions_max: Option<u32>,
    /// Topics with a retained message; `None` has no limit.
    pub retained_messages_max: Option<u32>,
}

/// Whether a name can be a namespace: one level of a topic that nothing else means.
pub fn is_namespace(name: &str) -> bool {
    let has_meaning = |it: char| matches!(it, '/' | '+' | '#') || it.is_control();
    let is_sized = (1..=NAMESPACE_BYTES_MAX).contains(&name.len());
    is_sized && !name.starts_with('$') && !name.contains(has_meaning)
}

const NAMESPACE_BYTES_MAX: usize = 255;

impl Default for Auth {
    fn default() -> Self {
        Self {
            password_file: None,
            hashing_threads: 0,
            session_takeover: SessionTakeover::default(),
            order: vec![
                Authentication::Jwt,
                Authentication::Password,
                Authentication::Http,
            ],
            jwt: Jwt::default(),
            http: Http::default(),
            namespaces: Vec::new(),
        }
    }
}

impl Auth {
    /// Whether a proof may say what its client may do.
    pub fn gives_rules(&self) -> bool {
        self.http.url.is_some() || (self.jwt.is_on() && !self.jwt.acl_claim.is_empty())
    }

    /// Whether credentials are checked in any way.
    pub fn has_logins(&self) -> bool {
        self.password_file.is_some() || self.has_more_than_passwords()
    }

    /// Whether user names are proved by more than the password file.
    pub fn has_more_than_passwords(&self) -> bool {
        self.jwt.is_on() || self.http.url.is_some()
    }
}

/// One way to check credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// The password file, and SCRAM.
    Password,
    /// A signed token.
    Jwt,
    /// A server that is asked.
    Http,
}

/// A server that is asked about logins by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where questions go; `None` asks nobody.
    pub url: Option<String>,
    /// The value of the header Authorization.
    pub authorization: Option<Secret>,
    /// Authorities that sign the server's certificate, a PEM file; `None` takes the system's.
    pub ca_file: Option<PathBuf>,
    /// How long an answer may take.
    pub timeout_milliseconds: u32,
    /// Questions at the same time, each on a thread.
    pub requests_max: u16,
    /// How long an answer is remembered, 0 = not at all.
    pub cache_seconds: u32,
    /// Answers remembered at the same time.
    pub cache_entries_max: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            url: None,
            authorization: None,
            ca_file: None,
            timeout_milliseconds: 3_000,
            requests_max: 4,
            cache_seconds: 30,
            cache_entries_max: 10_000,
        }
    }
}

/// Signed tokens: JSON Web Tokens in the compact form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwt {
    /// A secret for HMAC, or a PEM file with one public key.
    pub key_file: Option<PathBuf>,
    /// How [`Jwt::key_file`] signs; tokens that say otherwise are refused.
    pub algorithm: Option<JwtAlgorithm>,
    /// A JSON Web Key Set.
    pub jwks_file: Option<PathBuf>,
    /// Where a JSON Web Key Set is published.
    pub jwks_url: Option<String>,
    /// Authorities that sign the certificate of that server, a PEM file; `None` takes the system's.
    pub jwks_ca_file: Option<PathBuf>,
    /// How long that server may take.
    pub jwks_timeout_milliseconds: u32,
    /// After how long a token asks for newer keys.
    pub jwks_refresh_seconds: u32,
    /// The least time between two questions, whatever tokens come.
    pub jwks_retry_seconds: u32,
    /// How long keys count while the server gives no others.
    pub jwks_keep_seconds: u32,
    /// Where in CONNECT the token is.
    pub token_in: TokenPlace,
    /// Accepted `iss`; empty accepts every token that the keys have signed.
    pub issuers: Vec<String>,
    /// Accepted `aud`; empty accepts every token that the keys have signed.
    pub audiences: Vec<String>,
    /// How far the clocks of signer and broker may be apart.
    pub leeway_seconds: u32,
    /// Whether a token without `exp` is refused.
    pub expiry_required: bool,
    /// The claim that is the user name.
    pub user_name_claim: String,
    /// The claim that has to equal the client id, if the token has it; empty asks for none.
    pub client_id_claim: String,
    /// The claim with the namespace of the client, which every token needs then; empty reads none.
    pub namespace_claim: String,
    /// The claim with the groups of the client; empty reads none.
    pub groups_claim: String,
    /// The claim with the rules of the client; empty reads none.
    pub acl_claim: String,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            key_file: None,
            algorithm: None,
            jwks_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_timeout_milliseconds: 3_000,
            jwks_refresh_seconds: 300,
            jwks_retry_seconds: 10,
            jwks_keep_seconds: 3_600,
            token_in: TokenPlace::default(),
            issuers: Vec::new(),
            audiences: Vec::new(),
            leeway_seconds: 10,
            expiry_required: true,
            user_name_claim: "sub".into(),
            client_id_claim: "client_id".into(),
            namespace_claim: String::new(),
            groups_claim: String::new(),
            acl_claim: "acl".into(),
        }
    }
}

impl Jwt {
    /// Whether tokens are accepted at all.
    pub fn is_on(&self) -> bool {
        self.key_file.is_some() || self.jwks_file.is_some() || self.jwks_url.is_some()
    }
}

/// Where in CONNECT a token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TokenPlace {
    /// The password.
    #[default]
    Password,
    /// The user name.
    UserName,
}

/// How a token is signed.
///
/// # Source
/// RFC 7518 section 3.1, RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the specification say all")]
pub enum JwtAlgorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl JwtAlgorithm {
    /// The algorithm that a token or a key names.
    pub fn of_name(name: &str) -> Option<Self> {
        let all = Self::ALL.iter();
        all.copied().find(|it| it.name() == name)
    }

    /// The name in tokens and keys.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether signer and broker share a secret.
    pub fn is_hmac(self) -> bool {
        matches!(self, Self::Hs256 | Self::Hs384 | Self::Hs512)
    }

    const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];
}

/// Who may connect with the client id of a session that somebody else had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionTakeover {
    /// Everyone: client ids are not guarded.
    Anyone,
    /// Everyone but another user; clients without a user name are not told apart.
    #[default]
    NotOtherUsers,
    /// The same user only; clients without a user name are one of their own.
    SameUser,
}
