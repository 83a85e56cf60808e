//! How servers elsewhere are asked by HTTP: with a time limit, trusting whom the operator says, and
//! never following to somewhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use ureq::Agent;
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};

/// Authorities that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", file.display())]
pub struct AuthoritiesError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

/// What to ask with, within so many milliseconds for each question. Without a file of authorities
/// those of the system count.
pub(crate) fn agent(
    authorities: Option<&Path>,
    timeout_milliseconds: u32,
    connections_kept_max: u16,
) -> Result<Agent, AuthoritiesError> {
    let roots = match authorities {
        Some(file) => read_authorities(file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let roots = roots
        .iter()
        .map(|it| Certificate::from_der(it).to_owned())
        .collect();
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .build();
    let limit = Duration::from_millis(u64::from(timeout_milliseconds));
    let settings = Agent::config_builder()
        .tls_config(tls)
        .timeout_global(Some(limit))
        .http_status_as_error(false)
        // Questions go where the operator says, and nowhere else.
        .max_redirects(0)
        .proxy(None)
        .max_idle_connections_per_host(usize::from(connections_kept_max))
        .build();
    Ok(settings.new_agent())
}

/// The certificates of a PEM file.
pub(crate) fn read_authorities(
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, AuthoritiesError> {
    let wrong = |problem: String| AuthoritiesError {
        file: file.to_owned(),
        problem,
    };
    let bytes = fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() {
        return Err(wrong("has no certificate".into()));
    }
    Ok(found)
}

/// The body of an answer, which has to be one of status 200 and no longer than allowed.
pub(crate) fn body_of(response: Response<ureq::Body>, bytes_max: u64) -> Result<Vec<u8>, String> {
    let status = response.status().as_u16();
    if status != OK {
        return Err(format!("status {status}"));
    }
    read_body(response, bytes_max)
}

/// The body of any answer, if it is no longer than allowed.
pub(crate) fn read_body(response: Response<ureq::Body>, bytes_max: u64) -> Result<Vec<u8>, String> {
    let body = response.into_body().into_with_config();
    let body = body.limit(bytes_max).read_to_vec();
    body.map_err(|error| error.to_string())
}

const OK: u16 = 200;
