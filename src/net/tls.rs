//! Server side TLS settings turned into a rustls configuration.
//!
//! Owns the reading of certificate files and the choice by server name. Knows no listener.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls;

use rustls::client::verify_server_name;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem};
use rustls::server::{
    ClientHello, ParsedCertificate, ResolvesServerCert, VerifierBuilderError, WebPkiClientVerifier,
    danger::ClientCertVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, version};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

use crate::config::TlsVersion;

/// The files and rules of a TLS listener.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsSettings {
    /// Pairs of certificate chain and private key, PEM. The first serves clients that name no
    /// known server.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Authorities that may sign client certificates, PEM.
    pub client_ca: Option<PathBuf>,
    /// Certificates that their authorities have revoked, PEM.
    pub client_crl: Option<PathBuf>,
    /// Whether clients are asked for a certificate.
    pub client_certificates: ClientCertificates,
    /// The oldest version that clients may speak.
    pub version_min: TlsVersion,
    /// Protocols to choose from by ALPN; empty chooses none, whatever clients offer.
    pub alpn: Vec<String>,
}

/// Whether clients are asked for a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// Never asked for.
    #[default]
    Off,
    /// Asked for; a client without one is still accepted, one with a wrong one is not.
    Optional,
    /// The handshake fails without a valid one.
    Required,
}

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No certificate is configured.
    #[error("a tls listener needs at least one certificate")]
    NoCertificate,
    /// Client certificates are asked for without an authority.
    #[error("client certificates need a client_ca")]
    NoClientCa,
    /// A file cannot be read or holds no such PEM section.
    #[error("{}: {source}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: pem::Error,
    },
    /// A file holds something rustls refuses.
    #[error("{}: {source}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why it is refused.
        source: rustls::Error,
    },
    /// The authorities cannot verify clients.
    #[error("{}: {source}", path.display())]
    ClientCa {
        /// The file.
        path: PathBuf,
        /// Why they cannot.
        source: VerifierBuilderError,
    },
    /// The protocol versions do not fit the provider.
    #[error("tls versions: {0}")]
    Versions(rustls::Error),
}

impl TlsError {
    /// The file that cannot be used, and why.
    pub fn file(&self) -> Option<(&Path, &dyn std::error::Error)> {
        match self {
            Self::Pem { path, source } => Some((path, source)),
            Self::Refused { path, source } => Some((path, source)),
            Self::ClientCa { path, source } => Some((path, source)),
            Self::NoCertificate | Self::NoClientCa | Self::Versions(_) => None,
        }
    }
}

/// What the connections of a TLS listener begin with.
#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) acceptor: TlsAcceptor,
    /// Checks client certificates, also those of connections that are open already.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
}

impl Tls {
    /// Reads the files and builds the configuration shared by all connections of a listener.
    ///
    /// # Errors
    /// A file is missing, empty, malformed, or a key does not fit its certificate.
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, TlsError> {
        let verifier = client_verifier(settings, Arc::new(ring::default_provider()))?;
        let config = server_config(settings, verifier.clone())?;
        Ok(Self {
            acceptor: config.into(),
            verifier,
        })
    }

    /// Whether a connection with these certificates of the client would be made at a time.
    pub(crate) fn still_accepts(
        &self,
        certificates: Option<&[CertificateDer<'_>]>,
        unix_ms: u64,
    ) -> Result<(), rustls::Error> {
        let Some(verifier) = &self.verifier else {
            return Ok(());
        };
        match certificates.and_then(<[_]>::split_first) {
            None if verifier.client_auth_mandatory() => Err(rustls::Error::NoCertificatesPresented),
            None => Ok(()),
            Some((own, chain)) => {
                let now = UnixTime::since_unix_epoch(Duration::from_millis(unix_ms));
                verifier.verify_client_cert(own, chain, now).map(drop)
            }
        }
    }

    /// Whether client certificates count.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.verifier.is_some()
    }
}

fn server_config(
    settings: &TlsSettings,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let keys = settings
        .certificates
        .iter()
        .map(|(certificate, key)| certified_key(certificate, key).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err(TlsError::NoCertificate);
    }
    let versions: &[_] = match settings.version_min {
        TlsVersion::V1_2 => &[&version::TLS12, &version::TLS13],
        TlsVersion::V1_3 => &[&version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(TlsError::Versions)?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByServerName { keys }));
    config.alpn_protocols = settings
        .alpn
        .iter()
        .map(|it| it.as_bytes().to_vec())
        .collect();
    Ok(Arc::new(config))
}

/// Chooses a certificate by the server name the client asks for.
#[derive(Debug)]
struct ByServerName {
    /// Never empty; the first is the default.
    keys: Vec<Arc<CertifiedKey>>,
}

impl ResolvesServerCert for ByServerName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let usable =
            |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let name = hello
            .server_name()
            .and_then(|name| ServerName::try_from(name).ok());
        let named = |key: &&Arc<CertifiedKey>| {
            name.as_ref()
                .is_some_and(|name| is_certificate_for(key, name))
        };
        let chosen = self.keys.iter().filter(usable).find(named);
        chosen.or_else(|| self.keys.iter().find(usable)).cloned()
    }
}

fn is_certificate_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let Some(certificate) = key.cert.first() else {
        return false;
    };
    ParsedCertificate::try_from(certificate)
        .is_ok_and(|parsed| verify_server_name(&parsed, name).is_ok())
}

fn certified_key(certificate: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let chain = pem_items(certificate)?;
    let bytes = fs::read(key).map(Zeroizing::new);
    let bytes = bytes.map_err(|error| pem_error(key)(pem::Error::Io(error)))?;
    let private = PrivateKeyDer::from_pem_slice(&bytes).map_err(pem_error(key))?;
    let refused = |source| TlsError::Refused {
        path: key.to_owned(),
        source,
    };
    // What signs keeps a copy of its own; ours goes with `private`.
    let private = Zeroizing::new(private);
    let signing = any_supported_type(&private).map_err(refused)?;
    let certified = CertifiedKey::new(chain, signing);
    certified.keys_match().map_err(refused)?;
    Ok(certified)
}

/// All of one kind in a PEM file, which has to hold one at least.
fn pem_items<T: PemObject>(path: &Path) -> Result<Vec<T>, TlsError> {
    let found: Vec<_> = T::pem_file_iter(path)
        .map_err(pem_error(path))?
        .collect::<Result<_, _>>()
        .map_err(pem_error(path))?;
    if found.is_empty() {
        return Err(pem_error(path)(pem::Error::NoItemsFound));
    }
    Ok(found)
}

fn client_verifier(
    settings: &TlsSettings,
    provider: Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if settings.client_certificates == ClientCertificates::Off {
        return Ok(None);
    }
    let path = settings.client_ca.as_ref().ok_or(TlsError::NoClientCa)?;
    let mut roots = RootCertStore::empty();
    for certificate in pem_items(path)? {
        roots.add(certificate).map_err(|source| TlsError::Refused {
            path: path.clone(),
            source,
        })?;
    }
    let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    if let Some(path) = &settings.client_crl {
        // A list past its time says nothing of today.
        builder = builder
            .with_crls(pem_items(path)?)
            .enforce_revocation_expiration();
    }
    let builder = match settings.client_certificates {
        ClientCertificates::Required => builder,
        ClientCertificates::Off | ClientCertificates::Optional => builder.allow_unauthenticated(),
    };
    let verifier = builder.build().map_err(|source| TlsError::ClientCa {
        path: path.clone(),
        source,
    })?;
    Ok(Some(verifier))
}

fn pem_error(path: &Path) -> impl Fn(pem::Error) -> TlsError {
    move |source| TlsError::Pem {
        path: path.to_owned(),
        source,
    }
}
