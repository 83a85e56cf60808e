//! `tidewire certs`: certificates to try TLS with, never for production.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Why the certificates were not written.
#[derive(Debug, thiserror::Error)]
pub enum CertsError {
    /// A file of this name is there already; nothing was written.
    #[error("{} exists already and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// A file or folder cannot be written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A host is no valid name, or the key generation failed.
    #[error("certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Writes an authority, a server and a client certificate into the folder `out`; the paths.
///
/// The server certificate names localhost, 127.0.0.1, ::1 and `hosts`. The key of the authority is
/// thrown away, so nothing else can be signed by it. Keys are readable by their owner only.
///
/// # Errors
/// One of the files exists (nothing is written then), or cannot be written, or a host is malformed.
pub fn write_development_certificates(
    out: &Path,
    hosts: &[String],
) -> Result<Vec<PathBuf>, CertsError> {
    let files = development_certificates(hosts)?;
    fs::create_dir_all(out).map_err(|source| CertsError::Io {
        path: out.to_owned(),
        source,
    })?;
    let files: Vec<_> = files
        .into_iter()
        .map(|file| (out.join(file.name), file))
        .collect();
    if let Some((path, _)) = files
        .iter()
        .find(|(path, _)| path.symlink_metadata().is_ok())
    {
        return Err(CertsError::Exists(path.clone()));
    }
    let mut written = Vec::with_capacity(files.len());
    for (path, file) in files {
        write_new(&path, &file).map_err(|source| CertsError::Io {
            path: path.clone(),
            source,
        })?;
        written.push(path);
    }
    Ok(written)
}

struct PemFile {
    name: &'static str,
    mode: u32,
    text: String,
}

fn development_certificates(hosts: &[String]) -> Result<Vec<PemFile>, CertsError> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    authority
        .distinguished_name
        .push(DnType::CommonName, "Tidewire development authority");
    let authority_key = KeyPair::generate()?;
    let authority_text = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    names.extend_from_slice(hosts);
    let server = leaf(names, "localhost", ExtendedKeyUsagePurpose::ServerAuth);
    let client = leaf(
        Vec::new(),
        "development-client",
        ExtendedKeyUsagePurpose::ClientAuth,
    );
    let (server_key, client_key) = (KeyPair::generate()?, KeyPair::generate()?);
    let server_text = server?.signed_by(&server_key, &issuer)?.pem();
    let client_text = client?.signed_by(&client_key, &issuer)?.pem();
    Ok(vec![
        PemFile {
            name: "ca.crt",
            mode: PUBLIC,
            text: authority_text,
        },
        PemFile {
            name: "server.crt",
            mode: PUBLIC,
            text: server_text,
        },
        PemFile {
            name: "server.key",
            mode: OWNER_ONLY,
            text: server_key.serialize_pem(),
        },
        PemFile {
            name: "client.crt",
            mode: PUBLIC,
            text: client_text,
        },
        PemFile {
            name: "client.key",
            mode: OWNER_ONLY,
            text: client_key.serialize_pem(),
        },
    ])
}

fn leaf(
    names: Vec<String>,
    common_name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    Ok(params)
}

fn write_new(path: &Path, file: &PemFile) -> io::Result<()> {
    let mut output = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(file.mode)
        .open(path)?;
    output.write_all(file.text.as_bytes())
}

const PUBLIC: u32 = 0o644;
const OWNER_ONLY: u32 = 0o600;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::{ClientCertificates, Tls, TlsSettings};
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn certificates_serve_tls_and_are_never_overwritten() {
        let out = std::env::temp_dir().join(format!("tidewire-certs-{}", std::process::id()));
        let written =
            write_development_certificates(&out, &["broker.test".to_owned()]).expect("written");
        assert_eq!(written.len(), 5);
        let mode = fs::metadata(out.join("server.key"))
            .expect("key")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        let settings = TlsSettings {
            certificates: vec![(out.join("server.crt"), out.join("server.key"))],
            client_ca: Some(out.join("ca.crt")),
            client_certificates: ClientCertificates::Required,
            ..TlsSettings::default()
        };
        assert!(Tls::new(&settings).is_ok());
        let again = write_development_certificates(&out, &[]);
        assert!(matches!(again, Err(CertsError::Exists(_))));
        fs::remove_dir_all(&out).expect("removed");
    }
}
